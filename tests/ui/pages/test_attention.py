"""The page of attention: all heads' weights, as recorded, as a matrix, as arcs, and in numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mygpt_cli.inspection.attention import maps_of, view_attention
from mygpt_cli.inspection.trace import heads_of, trace
from mygpt_cli.ui.attention import show_attention
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.pages.attention import UNIT
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import byte_tokenizer, random_model

IDS = tuple(b"<b>a cat\x1b\n</b>")
TRACED = trace(random_model(257), IDS)
VIEW = view_attention(TRACED, byte_tokenizer())


def made(folder: Path, most: int = 100_000) -> str:
    how = Shown(json=True, to=Export(html=folder / "attention.html"), model=EVIL)
    show_attention(VIEW, how, maps_of(TRACED, VIEW.heads, most))
    return (folder / "attention.html").read_text(encoding="utf-8")


def test_the_page_holds_every_heads_weights(tmp_path: Path) -> None:
    data = check_harmless(made(tmp_path)).data
    assert data["tokens"][8:10] == ["␛", "↵"]
    assert [(head["layer"], head["head"]) for head in data["heads"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for head in data["heads"]:
        weights = heads_of(TRACED, head["layer"] - 1).weights[head["head"] - 1]
        for at, row in enumerate(head["weights"]):
            assert torch.tensor(row) / UNIT == pytest.approx(weights[at, : at + 1], abs=0.5 / UNIT + 1e-6)
    total = sum(part["logit"] for part in data["parts"])
    assert total == pytest.approx(data["logit"], abs=1e-9)


def test_a_long_text_is_bounded_to_its_end(opened: Any, tmp_path: Path) -> None:
    text = made(tmp_path, most=4 * 18)
    data = check_harmless(text).data
    assert (data["first"], data["total"], len(data["tokens"])) == (len(IDS) - 6, len(IDS), 6)
    weights = heads_of(TRACED, 1).weights[1][-6:, -6:]
    assert data["heads"][3]["weights"][5] == [round(UNIT * w) for w in weights[5].tolist()]
    page = opened(text)
    assert f"the last 6 of {len(IDS)} tokens" in page.inner_text("main")
    assert f"the {len(IDS) - 6} tokens before" in page.locator("table").nth(1).inner_text()


def test_heads_and_tokens_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path))
    page.locator("[data-head='2.1']").click()
    assert "Layer 2, head 1" in page.inner_text("main")
    assert page.locator("[data-head][aria-pressed='true']").get_attribute("data-head") == "2.1"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert "Layer 1, head 1" in page.inner_text("main")

    weights = heads_of(TRACED, 0).weights[0]
    page.locator(".tokens [data-at='5']").hover()
    best = int(weights[5, :6].argmax())
    assert f"at {best + 1}, with {float(weights[5, best]):.1%}" in page.inner_text(".panel")
    page.locator(".tokens [data-at='5']").focus()
    page.keyboard.press("ArrowRight")
    assert " at 7 looks" in page.inner_text(".panel")
    shares = page.locator("table").nth(1).locator("tbody tr td:nth-child(3)").all_inner_texts()
    assert shares == [f"{share:.1%}" for share in sorted((weights[6, :7]).round(decimals=3).tolist())[::-1]]
    arcs = page.locator(".arcs path").count()
    assert arcs == sum(round(UNIT * w) >= 10 for w in weights[6, :7].tolist())


def test_each_head_has_a_picture_of_its_weights(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path))
    for number, head in enumerate(VIEW.heads):
        weights = heads_of(TRACED, head.layer - 1).weights[head.head - 1]
        picture = page.locator(".pattern").nth(number)
        pixels = picture.evaluate(
            "shown => [...shown.getContext('2d').getImageData(0, 0, shown.width, shown.height).data]"
        )
        strengths = pixels[3::4]  # of red, green, blue and how opaque
        drawn = torch.tensor(strengths).view(len(IDS), len(IDS)) / 255
        assert torch.allclose(drawn, weights.sqrt(), atol=0.03)


def test_the_matrix_says_what_is_under_the_pointer(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path))
    page.locator("[data-head='1.2']").click()
    page.locator("svg.weights rect").nth(7).hover(force=True)  # row 3, column 1
    weights = heads_of(TRACED, 0).weights[1]
    assert f"at 4 looks at 'b' at 2 with {float(weights[3, 1]):.1%}" in page.inner_text(".panel")
    page.locator(".matrix").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert f"at 5 looks at '>' at 3 with {float(weights[4, 2]):.1%}" in page.inner_text(".panel")


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(made(tmp_path), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "<script>alert(1)</script>" in page.inner_text(".model")

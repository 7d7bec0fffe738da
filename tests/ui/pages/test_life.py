"""The page of a token's life: the model's own stages, and how its attention weights and logits came about."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import read_prompt
from mygpt_cli.inspection.life import view_life
from mygpt_cli.inspection.trace import Trace, heads_of, trace
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.life import show_life
from mygpt_cli.ui.pages import life
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import byte_tokenizer, random_model

TOKENIZER = byte_tokenizer()
PROMPT = "<b>a cat\x1b\n</b>"


def made(folder: Path, arch: str = "gpt2", **given: Any) -> str:
    traces: list[Trace] = []
    sampling = Sampling(seed=3, max_new_tokens=1, top_k=20)
    decoder, start = ReferenceDecoder(random_model(257, arch=arch)), read_prompt(TOKENIZER, PROMPT, 24)
    view = view_life(decoder, TOKENIZER, start, sampling, watch=traces.append, **given)
    how = Shown(json=True, to=Export(html=folder / "life.html"), model=EVIL)
    show_life(view, sampling, how, life.life_page(view, traces[0], TOKENIZER))
    return (folder / "life.html").read_text(encoding="utf-8")


def test_the_page_holds_every_stage(tmp_path: Path) -> None:
    data = check_harmless(made(tmp_path)).data
    model = random_model(257)
    traced = trace(model, tuple(PROMPT.encode()))
    residuals = [stage for stage in data["stages"] if stage["name"] == "residual"]
    for stage, stream in zip(residuals[2::2], traced.streams[1:], strict=True):
        assert stage["values"] == pytest.approx(stream[-1].tolist(), rel=1e-3, abs=1e-6)
    logits = model(torch.tensor([tuple(PROMPT.encode())]))[0, -1]
    assert len(data["logits"]) == 257
    assert [row[2] for row in data["logits"]] == pytest.approx(
        logits.sort(descending=True).values.tolist(), rel=1e-4, abs=1e-6
    )
    assert {stage["number"] for stage in data["stages"]} == set(range(4, 12))
    assert data["token"] == ">"


def test_a_large_model_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MOST_VALUES", 60), ("MOST_KEYS", 64), ("BEST", 9), ("MATCHES", 4)):
        monkeypatch.setattr(life, name, value)
    data = check_harmless(made(tmp_path)).data
    assert max(len(stage["values"]) for stage in data["stages"]) == 16
    assert [len(head["matches"]) for head in data["heads"]] == [4] * 4
    assert [match["key"] is None for match in data["heads"][0]["matches"]] == [False, False, True, True]
    assert len(data["logits"]) == 9


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_stages_open_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path, arch: str) -> None:
    page = opened(made(tmp_path, arch))
    stages = page.locator("[data-stage='7 heads']")
    assert stages.count() == 2
    stages.first.locator("summary").click()
    page.locator("[data-head='1.2']").click()
    page.locator(".detail table").wait_for()
    traced = trace(random_model(257, arch=arch), tuple(PROMPT.encode()))
    weights = sorted(heads_of(traced, 0).weights[1, -1].tolist(), reverse=True)
    shares = page.locator("table").nth(1).locator("tbody tr td:nth-child(5)").all_inner_texts()
    assert shares == [f"{share:.1%}" for share in weights]
    page.locator("[data-position='2']").click()
    told = page.locator(".detail .worked").inner_text()
    heads = heads_of(traced, 0)
    product = float(heads.query[1, -1] @ heads.key[1, 1])
    assert "key of 'b' at 2" in told
    assert f"the weight is {float(heads.weights[1, -1, 1]):.1%}" in told
    assert page.locator("[data-position='2']").get_attribute("aria-pressed") == "true"
    page.locator(".detail .bars").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".detail .barred").first.inner_text().startswith("dimension 2:")
    row = page.locator("tr", has=page.locator("[data-position='2']")).locator("td:nth-child(3)").inner_text()
    assert float(row) == pytest.approx(product, abs=6e-4)

    scores = page.locator("[data-stage^='10 ']").last  # after a soft cap, where there is one
    scores.locator("summary").focus()
    page.keyboard.press("Enter")
    rows = scores.locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() == 21
    page.get_by_role("button", name="Show all 257").click()
    assert rows.count() == 257
    values = [float(text) for text in rows.locator("td:nth-child(4)").all_inner_texts()]
    assert values == sorted(values, reverse=True)


def test_all_can_be_opened_and_closed(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path, layer=2))
    assert "layers that were not asked for" in page.inner_text("main")
    page.get_by_role("button", name="Open all").click()
    assert page.locator("details:not([open])").count() == 0
    assert "the stream and the attention, added up" in page.inner_text("main").lower()
    assert "falls into [" in page.inner_text("[data-stage='12 choice']")
    page.get_by_role("button", name="Close all").click()
    assert page.locator("details[open]").count() == 0


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(made(tmp_path), width)
    page.get_by_role("button", name="Open all").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "<script>alert(1)</script>" in page.inner_text(".model")

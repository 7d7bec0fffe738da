"""The page of two checkpoints: both sides of every token are what was measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mygpt_cli.inspection.compare import Comparison, Shift, Side
from mygpt_cli.inspection.surprisal import surprisal
from mygpt_cli.inspection.weights import Moved, moved
from mygpt_cli.ui.compare import show_compare
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.pages import compare
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import learned, random_model

TOKENIZER = learned(420)
TEXT = "Hello there, it's a test;\nnaïve café 中文 😀 and the end.\n" + EVIL
FIRST, OTHER = random_model(420), random_model(420, arch="nanochat")


def comparison(text: str = TEXT) -> Comparison:
    ids = TOKENIZER.encode_array(text)
    sides = Side(f"runs/{EVIL}", 500), Side("runs/b", None)
    texts = surprisal(FIRST, TOKENIZER, ids), surprisal(OTHER, TOKENIZER, ids)
    tensors, unlike = moved(FIRST, OTHER)
    tensors = (*tensors, Moved(EVIL, (3, 4), 2.0, 3.0, 1.5, 0.5), Moved("none", (4,), 0.0, 1.0, 1.0, None))
    shifts = Shift(7, b" sat", 0.5, 0.25), Shift(9, b"\x1b", 0.125, 0.625)
    return Comparison(sides, True, texts, shifts, 0.625, tensors, unlike)


def made(folder: Path, view: Comparison) -> str:
    show_compare(view, TOKENIZER, Shown(json=True, to=Export(html=folder / "two.html"), model=EVIL))
    return (folder / "two.html").read_text(encoding="utf-8")


def test_the_page_holds_both_sides(tmp_path: Path) -> None:
    view = comparison()
    data = check_harmless(made(tmp_path, view)).data
    assert view.texts is not None
    for side, text in zip(data["text"]["sides"], view.texts, strict=True):
        assert side["bits"] == pytest.approx(text.bits.tolist(), abs=1e-3)
        assert side["ranks"] == text.ranks.tolist()
        assert side["best"] == text.best.tolist()
    changes = np.abs(view.texts[1].bits - view.texts[0].bits)
    order = np.argsort(-changes, kind="stable")[: compare.MOST_MOVED] + 1
    assert [found["place"] for found in data["text"]["moved"]] == order.tolist()
    assert data["unlike"] == list(view.unlike)
    assert len(data["tensors"]) == len(view.tensors)


def test_a_long_text_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "MOST_TOKENS", 10)
    data = check_harmless(made(tmp_path, comparison())).data["text"]
    assert (len(data["ids"]), len(data["sides"][1]["bits"])) == (10, 9)
    assert data["count"] == len(TOKENIZER.encode_array(TEXT)) - 1


def test_tokens_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path) -> None:
    view = comparison()
    page = opened(made(tmp_path, view))
    assert view.texts is not None
    a, b = (text.bits for text in view.texts)
    page.locator("[data-at='3']").hover()
    told = page.inner_text(".panel")
    assert f"A {a[2]:.2f} bits" in told
    assert f"B {b[2]:.2f} bits" in told
    assert f"{abs(b[2] - a[2]):.2f} bits {'less' if b[2] < a[2] else 'more'} surprised" in told
    page.locator("[data-at='3']").focus()
    page.keyboard.press("ArrowRight")
    assert ", number 5:" in page.inner_text(".panel")
    changes = b.round(3) - a.round(3)
    assert page.locator(".surprisal .better").count() == int((changes <= -1).sum())
    assert page.locator(".surprisal .worse").count() == int((changes >= 1).sum())
    page.locator("input[type=range]").focus()
    page.keyboard.press("Home")
    assert page.locator(".surprisal .better").count() == int((changes < 0).sum())
    page.locator("select").select_option("A's surprise")
    page.locator("td button").first.click()
    place = page.evaluate("Number(document.activeElement.dataset.at)")
    assert place == int(np.abs(b - a).argmax()) + 1
    page.get_by_label("those that moved most first").check()
    moved_most = page.locator("table").last.locator("tbody tr td:nth-child(7)").all_inner_texts()
    shares = [float(text.strip("%<")) for text in moved_most if text]
    assert shares == sorted(shares, reverse=True)


def test_without_a_text_and_with_other_tokens(opened: Any, tmp_path: Path) -> None:
    bare = replace(comparison(), texts=None, next=(), divergence=None)
    page = opened(made(tmp_path, bare))
    assert page.locator("table").count() == 1
    other = replace(comparison(), same_tokens=False, next=(), divergence=None)
    page = opened(made(tmp_path, other))
    assert "Their tokenizers differ" in page.inner_text("main")
    assert page.locator("table").first.locator("tbody tr").count() == 1


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(made(tmp_path, comparison(TEXT + "x" * 300)), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg.plot path.curve").count() == 2

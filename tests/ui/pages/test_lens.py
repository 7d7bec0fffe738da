"""The page of the lens: a cell for each layer and position, and the best tokens behind it."""

from pathlib import Path
from typing import Any

import pytest

from mygpt_cli.inspection.lens import best_of, view_lens
from mygpt_cli.inspection.trace import trace
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.lens import show_lens
from mygpt_cli.ui.pages import lens
from mygpt_cli.ui.text import visible
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import byte_tokenizer, random_model

IDS = tuple(b"<b>a cat\x1b\n</b>")
TRACED = trace(random_model(257), IDS)
VIEWS = view_lens(TRACED, byte_tokenizer())


def made(folder: Path) -> str:
    best = best_of(TRACED, lens.TOP, lens.positions_for(VIEWS))
    how = Shown(json=True, to=Export(html=folder / "lens.html"), model=EVIL)
    show_lens(VIEWS, how, lens.lens_page(VIEWS, byte_tokenizer(), *best))
    return (folder / "lens.html").read_text(encoding="utf-8")


def test_the_page_holds_the_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = check_harmless(made(tmp_path)).data
    assert len(data["positions"]) == data["total"] == len(IDS)
    for view, position in zip(VIEWS, data["positions"], strict=True):
        assert (position["index"], position["answer"], position["decided"]) == (
            view.index,
            view.answer,
            view.decided,
        )
        for guess, cell in zip(view.guesses, position["guesses"], strict=True):
            assert (cell["ids"][0], cell["rank"]) == (guess.id, guess.answer_rank)
            assert cell["probs"][0] == pytest.approx(guess.probability, rel=1e-5)
            assert sorted(cell["probs"], reverse=True) == cell["probs"]
            assert len(cell["ids"]) == lens.TOP
    monkeypatch.setattr(lens, "MOST_CELLS", 12)
    data = check_harmless(made(tmp_path)).data
    assert [position["index"] for position in data["positions"]] == [11, 12, 13, 14]
    assert data["total"] == len(IDS)


def test_cells_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path))
    assert page.locator("td.cell").count() == 3 * len(IDS)
    page.locator("[data-layer='1'][data-at='4']").hover()
    guess = VIEWS[4].guesses[1]
    told = page.inner_text(".panel")
    assert "if it stopped after layer 1, it would say" in told
    assert f"'{visible(guess.token)}', with probability {guess.probability:.1%}" in told
    assert f"has rank {guess.answer_rank} here" in told
    page.locator("[data-layer='1'][data-at='4']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert "at 4, the model says" in page.inner_text(".panel")
    ids = best_of(TRACED, 5, len(IDS))[0][2, 3].tolist()
    shown = page.locator("table").nth(1).locator("tbody tr td:nth-child(3)").all_inner_texts()
    assert [int(token) for token in shown] == ids
    answers = page.locator("td.answer").count()
    assert answers == sum(guess.id == view.answer for view in VIEWS for guess in view.guesses)


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(made(tmp_path), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "␛" in page.inner_text("thead")

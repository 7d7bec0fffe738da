"""The page of copied passages: the text in pieces that lie where the passages lie."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.inspection.copied import Copied, Passage
from mygpt_cli.ui.copied import show_copied
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.pages import copied as pages
from mygpt_cli.ui.pages.copied import copied_page
from tests.helpers.screens import EVIL, check_harmless

TEXT = f"It was the best of times, 😀 it was {EVIL} the worst of times."
SPANS = ((3, 24), (11, 30), (40, 80))


def found_in(text: str, *spans: tuple[int, int]) -> Copied:
    passages = tuple(Passage(start, stop, f"{EVIL}.txt", 9 + start, 3) for start, stop in spans)
    covered = len({at for start, stop in spans for at in range(start, stop)})
    return Copied(len(text), 10, covered, passages)


def made(folder: Path, copied: Copied, text: str = TEXT) -> str:
    show_copied(copied, text, Shown(json=True, to=Export(html=folder / "copied.html"), model=EVIL))
    return (folder / "copied.html").read_text(encoding="utf-8")


@given(st.text("ab\n é😀", min_size=1, max_size=50), st.data())
def test_pieces_are_the_text_and_lie_in_their_passages(text: str, data: st.DataObject) -> None:
    edges = st.integers(0, len(text) - 1)
    starts = data.draw(st.lists(edges, max_size=4, unique=True).map(sorted))
    spans = [(start, data.draw(st.integers(start + 1, len(text)))) for start in starts]
    page = copied_page(found_in(text, *spans), text)
    assert sum(piece["size"] for piece in page["pieces"]) == len(text)
    shown = "".join(piece["text"] for piece in page["pieces"])
    assert shown.replace("↵\n", "\n") == text
    at = 0
    for piece in page["pieces"]:
        inside = {(p["start"], p["length"]) for p in (page["passages"][n] for n in piece["in"])}
        assert inside == {(a, b - a) for a, b in spans if a <= at < b}
        at += piece["size"]
    covered = sum(piece["size"] for piece in page["pieces"] if piece["in"])
    assert covered == page["copied"]


def test_a_long_text_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_CHARACTERS", 20)
    monkeypatch.setattr(pages, "MOST_PASSAGES", 2)
    data = check_harmless(made(tmp_path, found_in(TEXT, *SPANS))).data
    assert sum(piece["size"] for piece in data["pieces"]) == 20
    assert [passage["start"] for passage in data["passages"]] == [40, 3]
    assert data["count"] == 3


def test_passages_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path, found_in(TEXT, *SPANS)))
    assert page.locator(".place:visible").all_inner_texts() == ["[2]", "[3]", "[1]"]
    page.get_by_role("button", name="Go to [2]").click()
    assert "characters 4 to 24 of this text, 21 long" in page.inner_text(".panel")
    assert "<script>alert(1)</script>" in page.inner_text(".panel")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "Passage [3]" in page.inner_text(".panel")
    page.locator("input[type=range]").focus()
    page.keyboard.press("End")
    assert page.inner_text("output >> nth=-1") == f"1 passage, {40 / len(TEXT):.1%} of the text."
    assert page.locator(".place:visible").all_inner_texts() == ["[1]"]
    assert page.locator("tbody tr").count() == 1


def test_a_text_of_which_nothing_was_copied(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path, found_in(TEXT)))
    assert "0.0% of the text is copied and 100.0% is new" in page.inner_text("main")
    assert "<script>alert(1)</script>" in page.inner_text(".text")
    page = opened(
        made(
            tmp_path,
            found_in(
                "",
            ),
            "",
        )
    )
    assert "This text is shorter than that." in page.inner_text("main")


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(made(tmp_path, found_in(TEXT, *SPANS)), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_text_that_a_model_wrote_stands_after_its_prompt(opened: Any, tmp_path: Path) -> None:
    to = Export(html=tmp_path / "copied.html")
    show_copied(found_in(TEXT, *SPANS), TEXT, Shown(json=True, to=to), f"Tell me {EVIL}")
    text = to.html.read_text(encoding="utf-8") if to.html else ""
    assert check_harmless(text).data["prompt"].startswith("Tell me <script>")
    page = opened(text)
    assert page.inner_text(".text").startswith("Tell me <script>")
    assert "The prompt is not counted." in page.inner_text("main")

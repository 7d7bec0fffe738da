"""The page of the guided tour: one screen at a time, and answers that open."""

from pathlib import Path
from typing import Any

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.generation.stream import read_prompt
from mygpt_cli.inspection.tour import take_tour
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.tour import show_tour
from mygpt_cli.ui.tour_screens import STOPS
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import byte_tokenizer, random_model


def test_on_a_page_one_screen_follows_the_other(opened: Any, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    start = read_prompt(tokenizer, "Once " + EVIL, 48)
    tour = take_tour(ReferenceDecoder(random_model(257, context=48)), tokenizer, start, seed=3)
    show_tour(tour, Shown(json=True, to=Export(html=tmp_path / "tour.html"), model=EVIL))
    text = (tmp_path / "tour.html").read_text(encoding="utf-8")
    check_harmless(text)
    page = opened(text, 360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.inner_text("h2") == "text"
    assert page.get_by_role("button", name="Back").is_disabled()
    assert not page.get_by_text("Neither. A token").is_visible()
    page.locator("summary").click()
    assert page.get_by_text("Neither. A token").is_visible()
    page.get_by_role("button", name="Next").click()
    page.keyboard.press("ArrowRight")
    assert page.inner_text("h2") == "token ids"
    screens = page.locator("select")
    assert screens.locator("option:checked").inner_text() == "3 of 12: token ids"
    screens.select_option("0")
    assert page.inner_text("h2") == "text"
    screens.press("ArrowDown")  # which is the list's own
    assert page.inner_text("h2") == "bytes"
    page.get_by_role("button", name="Next").click()
    assert page.inner_text("h2") == "token ids"
    assert "▲" in page.inner_text("pre")
    for _ in STOPS:
        page.keyboard.press("ArrowRight")
    assert page.inner_text("h2") == "beam search"
    assert page.get_by_role("button", name="Next").is_disabled()

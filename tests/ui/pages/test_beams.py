"""The page of a beam search: its steps by a slider, and what was found."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import read_prompt
from mygpt_cli.inspection.beams import BeamsView, view_beams
from mygpt_cli.ui.beams import show_beams
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.pages.beams import MOST_BRANCHES, MOST_STEPS, beams_page
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import byte_tokenizer, random_model

TOKENIZER = byte_tokenizer()
SAMPLING = Sampling(seed=0, beams=3, max_new_tokens=5)


def search() -> BeamsView:
    start = read_prompt(TOKENIZER, "<b>Once", 24)
    return view_beams(ReferenceDecoder(random_model(257)), TOKENIZER, start, SAMPLING)


def made(folder: Path, view: BeamsView) -> str:
    how = Shown(json=True, to=Export(html=folder / "beams.html"), model=EVIL)
    show_beams(view, SAMPLING, how)
    return (folder / "beams.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [360, 1600])
def test_steps_by_the_slider(opened: Any, tmp_path: Path, width: int) -> None:
    view = search()
    page = opened(made(tmp_path, view), width)
    rows = page.locator("section").first.locator("tbody tr")
    assert rows.count() == len(view.steps[0].branches) == 6
    assert page.inner_text(".said") == "Step 1: 3 kept, 0 finished, 3 dropped."
    slider = page.locator("input[type=range]")
    slider.focus()
    slider.press("End")
    assert page.inner_text(".said") == "Step 5: 0 kept, 3 finished, 3 dropped."
    assert f"{view.steps[-1].branches[0].score:.3f}" in rows.first.inner_text()
    found = page.locator("section").nth(2).locator("tbody tr")
    assert found.count() == 3
    assert f"{view.found[0].score:.3f}" in found.first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_all_steps_as_a_tree(opened: Any, tmp_path: Path) -> None:
    view = search()
    page = opened(made(tmp_path, view), 360)
    leaves = page.locator(".tree li:not(:has(ul))").all_inner_texts()
    ranks = [int(rank) for leaf in leaves for rank in re.findall(r"found, number (\d)", leaf)]
    assert sorted(ranks) == [1, 2, 3]
    best = page.locator(".tree li.picked").inner_text()
    assert best.endswith(f"{view.found[0].score:.3f}  found, number 1")
    kept = sum(branch.fate != "dropped" for step in view.steps for branch in step.branches)
    assert len(leaves) <= kept
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_long_search_is_bounded() -> None:
    view = search()
    step = replace(view.steps[0], branches=view.steps[0].branches[:1] * 500)
    data = beams_page(replace(view, steps=(step,) * 300))
    assert (len(data["steps"]), data["all"]) == (MOST_STEPS, 300)
    assert (len(data["steps"][0]["branches"]), data["steps"][0]["all"]) == (MOST_BRANCHES, 500)


def test_counts_are_of_all_texts_not_of_those_shown(opened: Any, tmp_path: Path) -> None:
    view = search()
    first = view.steps[0].branches[0]
    fates: list[Any] = ["kept"] * 70 + ["finished"] * 10 + ["dropped"] * 120
    step = replace(view.steps[0], branches=tuple(replace(first, fate=fate) for fate in fates))
    page = opened(made(tmp_path, replace(view, steps=(step,), found=view.found[:1] * 100)))
    assert page.inner_text(".said") == "Step 1: 70 kept, 10 finished, 120 dropped."
    assert "The best 60 of 100, by" in page.locator("section").nth(2).inner_text()


def test_improbable_texts_have_bars(opened: Any, tmp_path: Path) -> None:
    """Beside the best of the step, though the probability itself is too small for a number."""
    view = search()
    first = view.steps[0].branches[0]
    totals = (-900.0, -900.0 - math.log(2))
    step = replace(view.steps[0], branches=tuple(replace(first, total=total) for total in totals))
    page = opened(made(tmp_path, replace(view, steps=(step,))))
    bars = page.locator("section").first.locator("td.bar i")
    shares = [bars.nth(row).evaluate("bar => bar.style.getPropertyValue('--share')") for row in range(2)]
    assert shares == ["100.00%", "50.00%"]


def test_nothing_in_a_text_acts(opened: Any, tmp_path: Path) -> None:
    view = search()
    branch = replace(view.steps[0].branches[0], token=EVIL.encode(), written=EVIL.encode() * 9)
    step = replace(view.steps[0], branches=(branch,))
    text = made(tmp_path, replace(view, steps=(step,), context=EVIL.encode()))
    check_harmless(text)
    assert opened(text).inner_text("main").count("<script>alert(1)</script>") >= 3

"""The page of a run: curves with their values, which can be enlarged, and tables of everything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mygpt_cli.inspection.history import RunHistory, Written
from mygpt_cli.inspection.summary import Summary
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.pages.run import MOST_POINTS, MOST_ROWS
from mygpt_cli.ui.summary import show_summary
from tests.helpers.screens import EVIL, SUMMARY, check_harmless, history


def made(folder: Path, past: RunHistory | None, summary: Summary | None = SUMMARY) -> str:
    show_summary(summary, past, Shown(json=True, to=Export(html=folder / "run.html"), model="tiny"))
    return (folder / "run.html").read_text(encoding="utf-8")


def test_the_page_holds_the_run(tmp_path: Path) -> None:
    past = history()
    data = check_harmless(made(tmp_path, past)).data
    assert data["history"]["loss"] == [[i.step, float(f"{i.loss:.6g}")] for i in past.intervals]
    assert data["history"]["smoothed"] == []  # which are the same
    assert data["history"]["best"]["step"] == 60
    assert [row["step"] for row in data["history"]["validations"]] == [20, 40, 60, 80, 100]
    assert data["history"]["state"].startswith("done: 100 steps")
    assert data["parameters"] == SUMMARY.parameters


def test_a_long_run_is_bounded(tmp_path: Path) -> None:
    one = history()
    many = tuple(replace(one.intervals[0], step=step) for step in range(1, 20_001))
    checks = tuple(replace(one.validations[0], step=step) for step in range(1, 3_001))
    text = made(tmp_path, replace(one, intervals=many, validations=checks, step=20_000))
    data = check_harmless(text).data["history"]
    assert max(len(data[name]) for name in ("loss", "rates", "validation")) == MOST_POINTS
    assert (len(data["validations"]), data["validated"]) == (MOST_ROWS, 3_000)
    assert len(text) < 500_000


def test_values_and_zoom(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path, history()))
    assert page.locator("h1").inner_text() == "Run a-001"
    assert page.locator("svg.plot").count() == 2
    box = page.locator(".curve").first
    bounds = box.bounding_box()
    across = (58 + (bounds["width"] - 70) * 0.6, bounds["height"] / 2)  # the axis begins after 58 pixels
    box.hover(position={"x": across[0], "y": across[1]})
    told = page.inner_text(".values")
    assert told.startswith("Step 60, training 2.3333")
    assert "validation 2.5000 at step 60" in told
    assert "learning rate 0.00200" in told

    assert "All steps" in page.inner_text(".controls >> nth=0")
    page.get_by_role("button", name="Zoom in").click()
    assert "Steps 25 to 75" in page.inner_text(".controls >> nth=0")
    box.focus()
    page.keyboard.press("ArrowRight")
    assert "Steps 38 to 88" in page.inner_text(".controls >> nth=0")
    page.keyboard.press("0")
    assert "All steps" in page.inner_text(".controls >> nth=0")
    page.mouse.move(bounds["x"] + 58, bounds["y"] + 100)
    page.mouse.down()
    page.mouse.move(bounds["x"] + across[0], bounds["y"] + 100)
    page.mouse.up()
    assert "Steps 0 to 60" in page.inner_text(".controls >> nth=0")
    assert page.locator("tr.picked").inner_text().split() == [
        "best",
        "▸",
        "60",
        "2.0000",
        "2.5000",
        "1.2500",
        "6",
        "s",
    ]


@pytest.mark.parametrize("width", [360, 1600])
def test_hostile_names_stay_text_and_the_page_fits(opened: Any, tmp_path: Path, width: int) -> None:
    bad = replace(history(), folder=EVIL, reason=EVIL, notes=(EVIL,))
    text = made(tmp_path, bad, replace(SUMMARY, folder=EVIL))
    check_harmless(text)
    page = opened(text, width)
    assert page.inner_text("main").count("<script>alert(1)</script>") == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_samples_are_a_table_from_gibberish_to_sentences(opened: Any, tmp_path: Path) -> None:
    written = tuple(Written(10 * at, 5.0 * 2**at, f"{at}: {EVIL}\n" * 200) for at in range(60))
    text = made(tmp_path, replace(history(), samples=written))
    rows = check_harmless(text).data["history"]["samples"]
    assert [row[0] for row in rows] == [0, *range(210, 600, 10)]
    assert all(len(row[2]) < 600 and row[2].endswith("…") for row in rows)
    page = opened(text)
    assert "The first one and the latest 39 of 60 samples." in page.inner_text("main")
    table = page.locator("table", has_text="From gibberish to sentences")
    assert table.locator("tbody tr").count() == 40
    assert "<script>alert(1)" in table.locator("tbody tr").first.inner_text()


@pytest.mark.parametrize("which", ["no run", "nothing measured", "no checkpoint", "one validation"])
def test_what_is_not_there_is_left_out(opened: Any, tmp_path: Path, which: str) -> None:
    past, none = history(), replace(history(), intervals=(), validations=(), best=None, step=0)
    given = {
        "no run": (None, SUMMARY),
        "nothing measured": (none, SUMMARY),
        "no checkpoint": (past, None),
        "one validation": (replace(none, validations=past.validations[:1], step=20), SUMMARY),
    }[which]
    page = opened(made(tmp_path, *given))
    assert page.locator("svg.plot").count() == {"no checkpoint": 2, "one validation": 1}.get(which, 0)
    assert page.get_by_text("Parameters by part").count() == (which != "no checkpoint")

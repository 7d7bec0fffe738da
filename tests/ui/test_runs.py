"""How the list of runs looks."""

import json
from pathlib import Path

import pytest

from mygpt_cli.inspection.runs import RunFacts
from mygpt_cli.ui.runs import render_runs, show_runs
from mygpt_cli.ui.units import age
from tests.helpers.screens import render

RUNS = [
    RunFacts("story-002", "c/story-002", "running", 700, 1500, 2.0149, 600, ("/a/story.txt",), None, 3.0),
    RunFacts("chat-001", "c/chat-001", "done", 1500, 1500, 1.5, 9, ("/a/b.txt", "-"), "/c/story-002", 7200.0),
    RunFacts("evil\x1b[31m-001", "c", "cut off", 0, None, None, None, None, None, 200_000.0),
    RunFacts("x-001", "c/x-001", "stopped", 5, 10, 3.0, 5, (), None, 60.0),
]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_each_run_is_a_line(width: int) -> None:
    shown = render(render_runs(RUNS, min(width, 100)), width)
    assert "\x1b" not in shown
    lines = shown.splitlines()
    assert all(len(line) <= width for line in lines)
    assert lines[0].split() == ["name", "step", "best", "text", "age"]
    assert lines[2].split() == ["story-002", "700/1,500", "running", "2.01", "story.txt", "3", "s"]
    assert lines[4].rstrip().endswith("2 d")
    if width > 80:
        assert "b.txt, standard input (from story-002)" in lines[3]
        assert "the Python language reference" in lines[5]


def test_a_run_that_ended_early_stands_out_on_white_as_well() -> None:
    shown = render(render_runs(RUNS, 80), 80, colour=True)
    assert "\x1b[35mcut off" in shown
    assert "\x1b[33m" not in shown  # yellow


def test_json_has_all_and_no_runs_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    show_runs(RUNS, Path("c"), json=True)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["name"] for record in records] == [run.name for run in RUNS]
    assert records[0] == {
        "name": "story-002",
        "folder": "c/story-002",
        "state": "running",
        "step": 700,
        "steps": 1500,
        "best": 2.0149,
        "best_step": 600,
        "text": ["/a/story.txt"],
        "fine_tuned": None,
        "age": 3.0,
    }
    show_runs([], Path("c"), json=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert "there are no runs in c yet; `mygpt train story.txt`" in " ".join(err.split())
    show_runs([], Path("c"), json=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0 s"), (59.9, "59 s"), (60, "1 m"), (7200, "2 h"), (86400 * 3.9, "3 d")]
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text

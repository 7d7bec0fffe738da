"""A run and its checkpoint as data for a page: the curves with their values, and what the checkpoint is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mygpt_cli.ui.chart import Point, thin
from mygpt_cli.ui.samples import first_and_last, written
from mygpt_cli.ui.text import one_line

if TYPE_CHECKING:
    from mygpt_cli.inspection.history import RunHistory
    from mygpt_cli.inspection.summary import Summary

MOST_POINTS = 2000  # of each curve: means of neighbours where there are more
MOST_SAMPLES, MOST_WRITTEN = 40, 300  # and cells of each
MOST_ROWS = 500  # validations in the table
Facts = Sequence[tuple[str, Sequence[str]]]


def run_page(
    history: "RunHistory | None", state: str, summary: "Summary | None", facts: Facts
) -> dict[str, Any]:
    """Return what a page needs to show a run in its `state`, and the `facts` about its checkpoint."""
    return {
        "history": None if history is None else {"state": one_line(state)} | _history(history),
        "facts": [[name, [one_line(line) for line in lines]] for name, lines in facts],
        "folder": one_line(summary.folder) if summary else "",
        "parameters": summary.parameters if summary else 0,
        "bytes": summary.bytes if summary else 0,
        "parts": [vars(part) for part in summary.parts] if summary else [],
    }


def _history(history: "RunHistory") -> dict[str, Any]:
    raw: list[Point] = [(i.step, i.loss) for i in history.intervals if i.loss is not None]
    smoothed: list[Point] = [(i.step, i.smoothed) for i in history.intervals if i.smoothed is not None]
    rates: list[Point] = [(i.step, i.lr) for i in history.intervals if i.lr is not None]
    best = history.best
    return {
        "notes": [one_line(note) for note in history.notes],
        "step": history.step,
        "measured": len(history.intervals),
        "loss": _points(raw),
        "smoothed": _points(smoothed) if smoothed != raw else [],
        "rates": _points(rates),
        "validation": _points([(v.step, v.val_loss) for v in history.validations]),
        "best": None if best is None else vars(best),
        "validations": [vars(found) for found in history.validations[-MOST_ROWS:]],
        "validated": len(history.validations),
        "samples": [
            [sample.step, sample.seconds, written(sample, MOST_WRITTEN)]
            for sample in first_and_last(history.samples, MOST_SAMPLES)
        ],
        "written": len(history.samples),
    }


def _points(points: Sequence[Point]) -> list[list[float]]:
    return [[round(x, 2), float(f"{y:.6g}")] for x, y in thin(points, MOST_POINTS)]

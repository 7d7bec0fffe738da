"""A beam search as data for a page: its steps to go through, and what was found."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from mygpt_cli.ui.text import one_line, tail, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.beams import BeamsView

MOST_STEPS, MOST_BRANCHES, MOST_CELLS = (
    200,
    60,
    120,
)  # the last steps, the best of each, and the end of a text


def beams_page(view: "BeamsView") -> dict[str, Any]:
    """Return what a page needs to show a search step by step."""
    steps = [
        {
            "index": step.index,
            "all": len(step.branches),
            "counts": Counter(branch.fate for branch in step.branches),
            "branches": [
                {
                    "number": branch.number,
                    "parent": branch.parent,
                    "token": visible(branch.token),
                    "values": [branch.logprob, branch.total, branch.score],
                    "fate": branch.fate,
                    "text": _end(branch.written),
                }
                for branch in step.branches[:MOST_BRANCHES]
            ],
        }
        for step in view.steps[-MOST_STEPS:]
    ]
    return {
        "context": _end(view.context),
        "beams": view.beams,
        "all": len(view.steps),
        "steps": steps,
        "all_found": len(view.found),
        "found": [
            {"text": _end(found.text), "values": [found.total, found.score], "tokens": len(found.ids)}
            for found in view.found[:MOST_BRANCHES]
        ],
    }


def _end(text: bytes) -> str:
    return tail(one_line(text.decode("utf-8", "surrogateescape")), MOST_CELLS)

"""The copied passages of a text as data for a page: the text in pieces, each with the passages it is in."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mygpt_cli.ui.pages.steps import broken
from mygpt_cli.ui.text import head, one_line

if TYPE_CHECKING:
    from mygpt_cli.inspection.copied import Copied, Passage

MOST_CHARACTERS = 200_000
MOST_PASSAGES = 1000
SAID = 120  # characters of a passage in the list


def copied_page(copied: "Copied", text: str, prompt: str = "") -> dict[str, Any]:
    """Return what a page needs to show what was copied: the longest passages, and the head of the text."""
    longest = sorted(copied.passages, key=lambda passage: (passage.start - passage.stop, passage.start))
    passages = longest[:MOST_PASSAGES]
    return {
        "prompt": broken(prompt.encode("utf-8", "surrogatepass")),
        "characters": copied.characters,
        "least": copied.least,
        "copied": copied.copied,
        "count": len(copied.passages),
        "pieces": _pieces(passages, text[:MOST_CHARACTERS]),
        "passages": [
            {
                "start": passage.start,
                "length": passage.stop - passage.start,
                "text": head(one_line(text[passage.start : min(passage.stop, passage.start + SAID)]), SAID),
                "file": one_line(passage.file),
                "line": passage.line,
                "offset": passage.offset,
            }
            for passage in passages
        ],
    }


def _pieces(passages: "list[Passage]", text: str) -> list[dict[str, Any]]:
    """Cut a text wherever a passage begins or ends."""
    starts: dict[int, list[int]] = {}
    stops: dict[int, list[int]] = {}
    for number, passage in enumerate(passages):
        starts.setdefault(passage.start, []).append(number)
        stops.setdefault(passage.stop, []).append(number)
    edges = sorted({0, *(edge for edge in (*starts, *stops) if edge < len(text)), len(text)})
    pieces, inside = [], set[int]()
    for start, stop in pairwise(edges):
        inside = (inside - set(stops.get(start, ()))) | set(starts.get(start, ()))
        pieces.append(
            {
                "text": broken(text[start:stop].encode("utf-8", "surrogatepass")),
                "size": stop - start,
                "in": sorted(inside),
            }
        )
    return pieces

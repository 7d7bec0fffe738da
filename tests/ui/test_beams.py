"""Beam search on the screen: its steps, its tree, what it found."""

from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Group

from mygpt_cli.inspection.beams import BeamStep, BeamsView, Branch, Fate, Found
from mygpt_cli.ui.beams import render_beams, render_tree
from tests.helpers.screens import render


def branch(parent: int, number: int | None, token: bytes, score: float, fate: Fate = "kept") -> Branch:
    return Branch(parent, number, token[-1], token, b"..." + token, -1.5, 2 * score, score, fate)


def beams() -> BeamsView:
    first = (
        branch(0, 1, b" a", -1.0),
        branch(0, 2, b"\xe6\xbc\xa2\xe2\x80\x8b", -2.0),
        *(branch(0, None, bytes([97 + at]), -3.0 - at, "dropped") for at in range(4)),
    )
    second = (branch(1, 1, b" b", -0.9), branch(1, 2, b" c\x1b", -1.1), branch(2, None, b"d", -9, "dropped"))
    third = (branch(1, None, b"e", -0.8, "finished"), branch(2, None, b"f\n", -0.85, "finished"))
    found = (
        Found((97, 98, 101), b" a be", -2.4, -0.8),
        Found((97, 27, 10), b" a c\x1bf\n", -2.5, -0.85),
    )
    steps = (BeamStep(1, first, 0), BeamStep(2, second, 0), BeamStep(3, third, 2))
    return BeamsView(b"Once upon", 2, 1.0, steps, found, " a be")


def test_the_tree_has_what_was_followed() -> None:
    assert render(render_tree(beams(), 80)).splitlines() == [
        "Once upon",
        "├── ␣a  -1.000",
        "│   ├── ␣be  -0.800  found, number 1",
        "│   └── ␣c␛f↵  -0.850  found, number 2",
        "└── 漢<U+200B>  -2.000  dropped in step 2",
    ]


def long_search(steps: int) -> BeamsView:
    """Return a search whose best text goes on while another one is dropped, in each step."""
    ids = tuple(97 + step % 26 for step in range(steps))
    tokens = [bytes([token]) for token in ids]
    made = [
        BeamStep(1 + at, (branch(int(at > 0), 1, token, -1.0), branch(int(at > 0), 2, b"!", -2.0)), 0)
        for at, token in enumerate(tokens[:-1])
    ]
    made.append(BeamStep(steps, (branch(1, None, tokens[-1], -1.0, "finished"),), 1))
    best = Found(ids, bytes(ids), -2.0, -1.0)
    return BeamsView(b"Once upon", 2, 1.0, tuple(made), (best,), bytes(ids).decode())


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("steps", [4, 7, 30, 150])
def test_every_text_of_a_long_search_can_be_read(steps: int, width: int) -> None:
    first, *lines = render(render_tree(long_search(steps), width), width).splitlines()
    assert all(cell_len(line) <= width and "…" not in line for line in lines)
    ends = [line for line in lines if not line.endswith("-1.000")]
    assert sum(line.endswith("-1.000  found, number 1") for line in ends) == 1
    assert sum("!  -2.000  dropped in step" in line for line in ends) == len(ends) - 1
    drawn = [int(line.rsplit(" ", 1)[1]) for line in lines if "dropped in" in line]
    assert sorted(drawn) == list(range(min(drawn), steps + 1))
    whole = first == "Once upon"
    assert whole is (min(drawn) == 2)
    assert whole or f" of {steps} steps" in first
    assert whole or len(drawn) >= (width - 60) // 4 + 4


def test_a_search_that_is_over_before_all_is_said() -> None:
    whole = beams()
    shown = render(Group(*render_beams(whole, 80)))
    assert "The search ends here" not in shown
    last = BeamStep(3, (*whole.steps[2].branches, branch(1, 1, b"g", -3)), 2)
    early = replace(whole, steps=(*whole.steps[:2], last))
    shown = render(Group(*render_beams(early, 80)))
    assert "The search ends here: no text that goes on scores better than these 2." in shown
    assert "still open" in shown


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("width", [60, 72, 80, 120])
def test_it_fits_and_is_safe(width: int, explain: bool) -> None:
    shown = render(Group(*render_beams(beams(), width, top=1, explain=explain)), width)
    assert all(cell_len(line) <= width for line in shown.splitlines())
    assert "\x1b" not in shown
    assert "3 more" in shown
    for text in ("▸1", "finished", "dropped", "-0.850"):
        assert text in shown
    told = " ".join(shown.split())
    assert ("'␣a' follows the prompt with 22.3% of the probability: it goes on as text 1" in told) is explain

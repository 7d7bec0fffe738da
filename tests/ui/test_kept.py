"""What is said of each checkpoint that a run has kept."""

from rich.console import Group

from mygpt_cli.inspection.compare import Shift
from mygpt_cli.inspection.kept import Moment
from mygpt_cli.ui.kept import render_kept
from tests.helpers.screens import render


def moment(step: int, share: float, says: Shift | None = None) -> Moment:
    answer = Shift(7, b" ", 0.75, share)
    return Moment(f"a/kept/{step}", step, True, None, None, answer, says or answer, 1 - share, ())


def test_a_checkpoint_with_the_same_answer_says_so() -> None:
    moments = [moment(1, 0.125, Shift(9, b",", 0.1, 0.5)), moment(2, 0.25), moment(3, 0.75)]
    shown = " ".join(render(Group(*render_kept(moments, 100, explain=True)), 100).split())
    for sentence in (
        "At this step it says ',' (50.0%); '␣', the answer of A, has 12.5%, and its predictions diverge from"
        " those of A by 0.88 bits.",
        "At this step it says '␣' too, the answer of A, with 25.0%, and its predictions diverge from those of"
        " A by 0.75 bits.",
        "A itself says '␣', with 75.0%.",
        "away: how many bits its prediction differs from A's.",
    ):
        assert sentence in shown

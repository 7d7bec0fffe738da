"""A checkpoint beside all that a run has kept, as data for a page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mygpt_cli.ui.text import one_line, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.compare import Shift
    from mygpt_cli.inspection.kept import Moment


def kept_page(moments: Sequence["Moment"], words: str, *, own: bool) -> dict[str, Any]:
    """Return what a page needs to show all moments; `own` says whether the last one is of the same run."""
    return {
        "words": words,
        "own": own,
        "same_tokens": moments[0].same_tokens,
        "moments": [
            {
                "folder": one_line(moment.folder),
                "step": moment.step,
                "bits": moment.bits_per_byte,
                "nats": moment.nats_per_token,
                "answer": _shift(moment.answer),
                "says": _shift(moment.says),
                "divergence": None if moment.divergence is None else max(0.0, moment.divergence),
                "parts": [vars(part) | {"name": one_line(part.name)} for part in moment.parts],
            }
            for moment in moments
        ],
    }


def _shift(shift: "Shift | None") -> dict[str, Any] | None:
    if shift is None:
        return None
    return {"id": shift.id, "token": visible(shift.token), "share": shift.other_probability}

"""A checkpoint beside all that were kept of a run: what it came to know, and when."""

from collections.abc import Iterable
from dataclasses import dataclass

from mygpt_cli.inspection.compare import Comparison, Shift
from mygpt_cli.inspection.summary import part_of
from mygpt_cli.inspection.weights import Moved


@dataclass(frozen=True)
class PartMoved:
    """A part of a model, over the tensors that both have: the norm of the difference of its numbers.

    `share` is that as a share of the norm of the first one's; None where that is zero.
    """

    name: str
    distance: float
    share: float | None


@dataclass(frozen=True)
class Moment:
    """A checkpoint, beside the one that all are compared with.

    `answer` is the other one's best next token after a prompt, `says` this one's own, `divergence` as in
    `Comparison`; with different tokenizers there is none of these. Losses are those over a text or a prompt,
    None without one; nats per token only compare with equal tokenizers.
    """

    folder: str
    step: int | None
    same_tokens: bool
    bits_per_byte: float | None
    nats_per_token: float | None
    answer: Shift | None
    says: Shift | None
    divergence: float | None
    parts: tuple[PartMoved, ...]


def moment_of(view: Comparison) -> Moment:
    """Return what a comparison says about its second checkpoint."""
    side, text = view.sides[1], view.texts[1] if view.texts else None
    return Moment(
        folder=side.folder,
        step=side.step,
        same_tokens=view.same_tokens,
        bits_per_byte=text.bits_per_byte if text else None,
        nats_per_token=text.nats_per_token if text and view.same_tokens else None,
        answer=max(view.next, key=lambda shift: shift.probability, default=None),
        says=max(view.next, key=lambda shift: shift.other_probability, default=None),
        divergence=view.divergence,
        parts=tuple(parts_moved(view.tensors)),
    )


def parts_moved(tensors: Iterable[Moved]) -> list[PartMoved]:
    """Add up by parts of the model how far its tensors are apart."""
    squares: dict[str, tuple[float, float]] = {}
    for tensor in tensors:
        norm, distance = squares.get(name := part_of(tensor.name), (0.0, 0.0))
        squares[name] = norm + tensor.norm**2, distance + tensor.distance**2
    return [
        PartMoved(name, distance**0.5, (distance / norm) ** 0.5 if norm else None)
        for name, (norm, distance) in squares.items()
    ]

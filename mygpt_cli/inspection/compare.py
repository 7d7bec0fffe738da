"""Two checkpoints side by side: losses over a text, the next token after a prompt, and weights."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.checkpoints.checkpoint import Checkpoint
from mygpt_cli.generation.decoding import DecodingState
from mygpt_cli.inspection.surprisal import Surprisal
from mygpt_cli.inspection.weights import Moved, moved

FEWEST = 100  # tokens that say anything about which of two models is better


@dataclass(frozen=True)
class Side:
    """One of two checkpoints; its step is None where nothing says so."""

    folder: str
    step: int | None


@dataclass(frozen=True)
class Shift:
    """A token that could come next, and its probability by each model."""

    id: int
    token: bytes
    probability: float
    other_probability: float

    @property
    def change(self) -> float:
        """How much more probable the other model finds it."""
        return self.other_probability - self.probability


@dataclass(frozen=True)
class Comparison:
    """How a checkpoint and another one differ.

    `texts` are what each makes of a text. `next` are the tokens that either finds the most probable after
    the text, `divergence` (bits) that of Kullback and Leibler (1951) of the first model's distribution from
    the other's. Both need `same_tokens`: equal tokenizers. `unlike` names tensors that only one has, or in
    another shape.
    """

    sides: tuple[Side, Side]
    same_tokens: bool
    texts: tuple[Surprisal, Surprisal] | None
    next: tuple[Shift, ...]
    divergence: float | None
    tensors: tuple[Moved, ...]
    unlike: tuple[str, ...]

    @property
    def changes(self) -> np.ndarray | None:
        """How much more the other model is surprised by each token, in bits; None where they differ."""
        if self.texts is None or not self.same_tokens:
            return None
        difference: np.ndarray = self.texts[1].bits - self.texts[0].bits
        return difference

    @property
    def standard_error(self) -> float | None:
        """That of the difference in bits per byte, as if tokens were independent; None for too few of them.

        With equal tokenizers it is that of the differences token by token.
        """
        if self.texts is None or min(len(text.nats) for text in self.texts) < FEWEST:
            return None
        changes = self.changes
        parts = [text.bits for text in self.texts] if changes is None else [changes]
        variance = sum(len(part) * float(part.var(ddof=1, dtype=np.float64)) for part in parts)
        return math.sqrt(variance) / max(1, *(text.bytes for text in self.texts))


def same_tokenizer(first: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints cut every text into the same tokens, and choose among as many."""
    return (
        first.config.vocab_size == other.config.vocab_size
        and first.tokenizer.to_json() == other.tokenizer.to_json()
    )


def compare(
    first: Checkpoint,
    other: Checkpoint,
    *,
    prompt: tuple[int, ...] = (),
    texts: tuple[Surprisal, Surprisal] | None = None,
    top: int = 5,
) -> Comparison:
    """Compare two checkpoints; after a prompt, which needs equal tokenizers, also the next token."""
    tensors, unlike = moved(first.model, other.model)
    following: tuple[Shift, ...] = ()
    divergence = None
    same = same_tokenizer(first, other)
    if prompt and same:
        following, divergence = _next(first, other, prompt, top)
    sides = tuple(Side(str(side.folder), _step(side)) for side in (first, other))
    return Comparison((sides[0], sides[1]), same, texts, following, divergence, tensors, unlike)


def _next(
    first: Checkpoint, other: Checkpoint, prompt: tuple[int, ...], top: int
) -> tuple[tuple[Shift, ...], float]:
    a, b = (_logits(side, prompt).log_softmax(dim=-1) for side in (first, other))
    p, q = a.exp(), b.exp()
    best = {int(token) for probs in (p, q) for token in probs.topk(min(top, len(probs))).indices}
    shifts = [
        Shift(token, first.tokenizer.token_bytes(token), float(p[token]), float(q[token])) for token in best
    ]
    shifts.sort(key=lambda shift: (-max(shift.probability, shift.other_probability), shift.id))
    return tuple(shifts), float((p * (a - b)).sum()) / math.log(2)


def _logits(checkpoint: Checkpoint, prompt: tuple[int, ...]) -> Tensor:
    """Return what the model gives (V) after what it sees of a prompt."""
    decoder = ReferenceDecoder(checkpoint.model)
    return DecodingState(decoder, torch.tensor([prompt]), room=0, window="half").logits()[0]


def _step(checkpoint: Checkpoint) -> int | None:
    step = (checkpoint.state or {}).get("step")
    return step if isinstance(step, int) else None

"""The tensors of a model, in numbers, and how far those of two models are apart."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mygpt_cli.model.gpt import GPT

BINS = 16


@dataclass(frozen=True)
class Weights:
    """A tensor: its norm (Euclidean), mean, standard deviation (of all, not of a sample), and extremes.

    `histogram` counts its numbers in equal bins from `low` to `high`.
    """

    name: str
    shape: tuple[int, ...]
    norm: float
    mean: float
    deviation: float
    low: float
    high: float
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class Moved:
    """A tensor in two models, of norms `norm` and `other_norm`, and the norm of the difference.

    `cosine` is that of the angle between the two; None where one is all zeros.
    """

    name: str
    shape: tuple[int, ...]
    norm: float
    other_norm: float
    distance: float
    cosine: float | None

    @property
    def share(self) -> float | None:
        """The distance as a share of the first one's norm; None where that is zero."""
        return self.distance / self.norm if self.norm else None


def weights_of(model: GPT) -> tuple[Weights, ...]:
    """Describe every tensor that was trained, in the order of the model, computed in 64 bits."""
    return tuple(_describe(name, tensor) for name, tensor in model.named_parameters())


def _describe(name: str, tensor: Tensor) -> Weights:
    numbers = tensor.detach().double().flatten().cpu()
    low, high = float(numbers.min()), float(numbers.max())
    return Weights(
        name=name,
        shape=tuple(tensor.shape),
        norm=float(numbers.norm()),
        mean=float(numbers.mean()),
        deviation=float(numbers.std(correction=0)),
        low=low,
        high=high,
        histogram=tuple(int(n) for n in torch.histc(numbers, BINS, low, high).tolist()),
    )


def moved(model: GPT, other: GPT) -> tuple[tuple[Moved, ...], tuple[str, ...]]:
    """Compare the tensors that two models both have, of one shape; also name those that they do not."""
    theirs = dict(other.named_parameters())
    ours = dict(model.named_parameters())
    both = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    unlike = [name for name in {**ours, **theirs} if name not in both]
    return tuple(_move(name, ours[name], theirs[name]) for name in both), tuple(unlike)


def _move(name: str, ours: Tensor, theirs: Tensor) -> Moved:
    a, b = (tensor.detach().double().flatten().cpu() for tensor in (ours, theirs))
    norms = float(a.norm()), float(b.norm())
    # Exactly 1 for equal tensors, which rounding would miss.
    cosine = None if 0 in norms else 1.0 if torch.equal(a, b) else float(a @ b) / (norms[0] * norms[1])
    return Moved(name, tuple(ours.shape), *norms, distance=float((b - a).norm()), cosine=cosine)

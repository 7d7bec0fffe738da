"""The tensors of a model, in numbers, and how far those of two models are apart."""

from dataclasses import dataclass

import numpy as np
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
class Blocks:
    """A matrix in blocks of this `size` (rows, columns), the last ones of a row or a column perhaps smaller.

    Of each block, `means` has the mean, and `spreads` the root mean square.
    """

    size: tuple[int, int]
    means: tuple[tuple[float, ...], ...]
    spreads: tuple[tuple[float, ...], ...]


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
        histogram=histogram_of(numbers, BINS),
    )


def histogram_of(tensor: Tensor, bins: int) -> tuple[int, ...]:
    """Count the numbers of a tensor in equal bins from its lowest to its highest."""
    numbers = tensor.detach().double().flatten().cpu()
    found = torch.histc(numbers, bins, float(numbers.min()), float(numbers.max()))
    return tuple(int(n) for n in found.tolist())


def blocks_of(tensor: Tensor, side: int) -> Blocks:
    """Divide a matrix into equal blocks, at most `side` each way.

    Of more than two dimensions, all but the first count as one.
    """
    matrix = tensor.detach().double().cpu().numpy().reshape(len(tensor), -1)
    block = tuple(-(-length // side) for length in matrix.shape)
    starts = [np.arange(0, length, step) for length, step in zip(matrix.shape, block, strict=True)]

    def sums(x: np.ndarray) -> np.ndarray:
        added: np.ndarray = np.add.reduceat(np.add.reduceat(x, starts[0], axis=0), starts[1], axis=1)
        return added

    counts = sums(np.ones_like(matrix))
    return Blocks(
        size=(block[0], block[1]),
        means=tuple(map(tuple, (sums(matrix) / counts).tolist())),
        spreads=tuple(map(tuple, np.sqrt(sums(matrix**2) / counts).tolist())),
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

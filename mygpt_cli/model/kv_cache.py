"""Keys and values of the tokens already seen, so that each new token costs one position."""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor


class KVCache:
    """Keys and values of every layer, allocated once.

    `shape` is (layers, sequences, key/value heads, tokens, head width). `lengths` are the tokens that are
    filled of each sequence in use, the first ones of those that there is room for; the model advances them
    once all layers have written.
    """

    def __init__(
        self, shape: tuple[int, int, int, int, int], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = [0] * shape[1]

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return self.keys.size(3)

    @property
    def length(self) -> int:
        """Tokens that are filled, where all sequences have as many."""
        (length,) = set(self.lengths)
        return length

    @length.setter
    def length(self, tokens: int) -> None:
        self.lengths = [tokens] * len(self.lengths)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, K, T, D) keys and values after the filled ones and return all of them, (B, K, S, D)."""
        used, end = len(keys), self.length + keys.size(2)
        self.keys[layer, :used, :, self.length : end] = keys
        self.values[layer, :used, :, self.length : end] = values
        return self.keys[layer, :used, :, :end], self.values[layer, :used, :, :end]

    def part(self, rows: slice) -> Self:
        """Return a cache of some sequences: it shares the memory of this one, and has lengths of its own."""
        part = copy.copy(self)
        part.keys, part.values = self.keys[:, rows], self.values[:, rows]
        part.lengths = self.lengths[rows]
        return part

    def select(self, rows: Sequence[int]) -> None:
        """Keep these sequences, in this order; one that is named several times goes on several times."""
        moved = [(new, old) for new, old in enumerate(rows) if new != old]
        if moved:
            new, old = map(list, zip(*moved, strict=True))
            filled = max(self.lengths)
            for whole in (self.keys, self.values):
                whole[:, new, :, :filled] = whole[:, old, :, :filled]
        self.lengths = [self.lengths[row] for row in rows]

"""Masks for dropout, each a function of a seed, and of the order and the sizes in which they are drawn."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_POOL = 1 << 23


class DropoutMasks:
    """Hands out masks of zeros and 1 / (1 - p), a fraction p of them zeros (Srivastava et al., 2014).

    Random bits cost more than the layers they mask, so a mask is a stretch of one large pool, from a random
    place; `seed` fills the pool and `start` seeds the places. p is kept in steps of 1/256.

    Processes that share a batch each see their own rows of the masks that one process would draw for all.
    """

    def __init__(self, p: float, *, seed: int, dtype: torch.dtype, device: torch.device) -> None:
        self._zeros = min(255, max(1, round(256 * p)))
        self._seed, self._dtype, self._device = seed, dtype, device
        self._pool = self._fill(_POOL)
        self._places = np.random.default_rng(seed)
        self._pass, self._rows, self._first, self._of = 0, 1, 0, 1

    def _fill(self, size: int) -> Tensor:
        noise = np.random.default_rng(self._seed).integers(0, 256, size, dtype=np.uint8)
        kept = torch.from_numpy(noise).to(self._device) >= self._zeros
        return kept.to(self._dtype).mul_(256 / (256 - self._zeros))

    def start(self, seed: int) -> None:
        """Begin the row of masks that belongs to this seed, such as that of a training step."""
        self._places = np.random.default_rng(seed)
        self._pass, self._rows, self._first, self._of = 0, 1, 0, 1

    def go_to(self, number: int, draws: int, shape: Sequence[int], rows: slice) -> None:
        """Let what is drawn next be for these rows of the step's forward pass of this number, from 0.

        Each pass makes so many `draws`, of masks whose `shape` begins with the number of its rows. Passes are
        gone to in ascending order; those before that were not made are passed over.
        """
        self._rows, self._first, self._of = rows.stop - rows.start, rows.start, shape[0]
        size = math.prod(shape)
        for _ in range((number - self._pass) * draws):
            self._place(size)
        self._pass = number + 1

    def draw(self, *shape: int) -> Tensor:
        """Return the next mask of this shape; it must not be written to."""
        size = math.prod(shape)
        place = self._place(size // self._rows * self._of) + size // self._rows * self._first
        return self._pool[place : place + size].view(shape)

    def _place(self, size: int) -> int:
        """Draw where in the pool the next mask of this size begins."""
        if 2 * size > len(self._pool):
            self._pool = self._fill(4 * size)
        return int(self._places.integers(0, (len(self._pool) - size) // 64)) * 64

"""`sample.c` for tensors: tokens drawn in a fraction of the time that the exact rule takes."""

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mygpt_cli.backends.cpu.native import Kernel, compile_library

FEW = 2**16  # logits, for which it is not worth waking other threads


class CompiledSampler:
    """Draws tokens as the exact rule does, by code that is compiled unless the folder has it.

    Raises ResourceError where that fails.
    """

    def __init__(self, folder: Path) -> None:
        self._kernel = Kernel(compile_library("sample", (), folder), "sample", "ttiirirrtt")
        self._workspace = torch.empty(0)

    def __call__(
        self,
        logits: Tensor,
        draws: Sequence[float],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
    ) -> list[int]:
        """Return for each row of logits (B, V), float32 on the CPU, the token on which its draw (B) falls.

        Draws are from [0, 1). Filters act in the order in which they are named here. Where rounding could
        make a difference to the token, it is -1.
        """
        logits, count = logits.contiguous(), len(draws)
        if self._workspace.numel() < 2 * logits.numel():
            self._workspace = torch.empty(2 * logits.numel(), dtype=torch.float64)
        ids = (ctypes.c_int64 * count)()
        self._kernel(
            logits,
            (ctypes.c_double * count)(*draws),
            count,
            logits.size(1),
            temperature,
            top_k,
            top_p,
            min_p,
            self._workspace,
            ids,
            alone=count == 1 or logits.numel() <= FEW,
        )
        return list(ids)

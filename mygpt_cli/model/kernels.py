"""`kernels.c` for tensors: what a training pass does between its matrix products."""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mygpt_cli.model.native import compile_library, training_options

# One letter an argument: a tensor or None, an integer, a real number.
SIGNATURES = {
    "add_norm": "tttttttttiir",
    "norm_backward": "ttttttttttii",
    "split_heads": "tttttiiiir",
    "split_heads_backward": "ttttttiiii",
    "join_heads": "ttiiii",
    "part_heads": "ttiiii",
    "softmax": "tiir",
    "softmax_backward": "ttiir",
    "activate": "ttii",
    "activate_backward": "ttii",
    "cross_entropy": "tttiirr",
}
TYPES: dict[str, Any] = {"t": ctypes.c_void_p, "i": ctypes.c_long, "r": ctypes.c_float}


class Kernels:
    """The functions of `kernels.c` for numbers of one type, by name; tensors are contiguous, on the CPU."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._functions = {name: library[name] for name in SIGNATURES}
        for name, function in self._functions.items():
            function.argtypes = [TYPES[letter] for letter in SIGNATURES[name]]
            function.restype = None

    def __call__(self, name: str, *arguments: Tensor | float | None) -> None:
        """Call a function of `kernels.c`."""
        self._functions[name](*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


def compile_kernels(dtype: torch.dtype, folder: Path) -> Kernels:
    """Compile for `float32` or `bfloat16`, unless the folder has it; ResourceError where that fails."""
    options = training_options(str(dtype).removeprefix("torch."))
    return Kernels(compile_library("kernels", options, folder), dtype)

"""`kernels.c` for tensors: what a training step does, but for products that torch does as fast."""

import ctypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mygpt_cli.model.native import compile_library, training_options

# One letter an argument: a tensor or None, an integer, a real number.
SIGNATURES = {
    "add_norm": "tttttttttiir",
    "norm_backward": "ttttttttttii",
    "attend": "tttttttiiiir",
    "attend_backward": "tttttttttiiii",
    "activate": "ttii",
    "activate_backward": "ttii",
    "muon": "ttiirrr",
    "cross_entropy": "tttiirr",
    "matmul": "tttiiiiiii",  # only in float32, on processors with tiles
}
MOST_THREADS = 4  # with more, each would split the same numbers for less and less of the work
TYPES: dict[str, Any] = {"t": ctypes.c_void_p, "i": ctypes.c_long, "r": ctypes.c_float}


class Kernels:
    """The functions of `kernels.c` for numbers of one type, by name; tensors are contiguous, on the CPU."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._functions = {name: library[name] for name in SIGNATURES if hasattr(library, name)}
        for name, function in self._functions.items():
            function.argtypes = [TYPES[letter] for letter in SIGNATURES[name]]
            function.restype = None
        self._rooms = {name: library[f"{name}_room"] for name in ("attention", "muon")}
        for function in self._rooms.values():
            function.argtypes, function.restype = [ctypes.c_long] * 2, ctypes.c_long

    def __call__(self, name: str, *arguments: Tensor | float | None) -> None:
        """Call a function of `kernels.c`."""
        self._functions[name](*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))

    def room(self, what: str, *shape: int) -> Tensor:
        """Return what each thread needs to work in (threads, ·), for `attention` (T, D) or `muon` (M, N)."""
        return torch.empty(torch.get_num_threads(), self._rooms[what](*shape))

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Return a (M, K) · b (K, N); K or the other dimension runs along the memory of each."""
        if "matmul" not in self._functions or torch.get_num_threads() > MOST_THREADS:
            return a @ b
        c = a.new_empty(a.size(0), b.size(1))
        a_along, b_along = a.stride(1) == 1, b.stride(1) != 1
        strides = (max(a.stride()), a_along, max(b.stride()), b_along)
        self("matmul", a, b, c, *c.shape, a.size(1), *strides)
        return c

    def muon(self, matrices: Iterable[tuple[Tensor, ...]], momentum: float, lr: float, decay: float) -> None:
        """Take Muon's step, the largest matrices first, which are given as `muon.h` lists them."""
        table = [[*(tensor.data_ptr() for tensor in each), *each[0].shape] for each in matrices]
        m, n = (max(pick(row[4:]) for row in table) for pick in (min, max))
        rooms = self.room("muon", m, n)
        self("muon", torch.tensor(table), rooms, rooms.size(1), len(table), momentum, lr, decay)


def compile_kernels(dtype: torch.dtype, folder: Path) -> Kernels:
    """Compile for `float32` or `bfloat16`, unless the folder has it; ResourceError where that fails."""
    options = training_options(str(dtype).removeprefix("torch."))
    library = compile_library("kernels", options, folder)
    if not library.have_tiles():
        library = compile_library("kernels", [*options, "-DNO_TILES"], folder)
    return Kernels(library, dtype)

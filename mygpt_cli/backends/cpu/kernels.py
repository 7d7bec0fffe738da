"""`kernels.c` for tensors: what a training step does, but for products that are left to torch.

Shapes: N rows, C channels, F feed-forward width; A of what goes into a layer, B of what comes out.
"""

import ctypes
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from mygpt_cli.backends.cpu.native import Kernel, compile_library, training_options

# The letters of `Kernel`.
SIGNATURES = {
    "add_norm": "tttttttttiir",
    "norm_backward": "ttttttttttii",
    "attend": "tttttttttiiiiiiiir",
    "attend_backward": "ttttttttttttiiiiiiii",
    "activate": "tttii",
    "activate_backward": "tttii",
    "muon": "ttitirrr",
    "cross_entropy": "ttttiiirr",
    # On processors with tiles, in float32 `matmul.h`, in bfloat16 `linear.h`:
    "matmul": "tttiiiiiii",
    "linear": "ttttiiii",
    "linear_backward": "ttttttiiii",
    "mlp": "tttttiiiii",
    "mlp_backward": "ttttttttiiiii",
}
WORKSPACES = ("attention", "muon", "cross_entropy", "linear", "linear_backward", "mlp", "mlp_backward")
# Of `linear.h` and `matmul.h`: with more threads, each would lay out the same numbers for less and less work;
# and what is made of a larger matrix leaves the caches, so that torch is as fast.
MOST_THREADS, LARGEST = 4, 2**20


class Kernels:
    """The functions of `kernels.c` for numbers of one type, by name; tensors are contiguous, on the CPU.

    They share one workspace: only one runs at a time.
    """

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._kernels = {
            name: Kernel(library, name, letters)
            for name, letters in SIGNATURES.items()
            if hasattr(library, name)
        }
        self._workspace = torch.empty(0)
        self._sizes = {
            name: library[f"{name}_workspace_size"]
            for name in WORKSPACES
            if hasattr(library, f"{name}_workspace_size")
        }
        for function in self._sizes.values():
            function.argtypes, function.restype = [ctypes.c_long] * 2, ctypes.c_long

    def __call__(self, name: str, *arguments: Tensor | float | None) -> None:
        """Call a function of `kernels.c`."""
        self._kernels[name](*arguments)

    def workspace(self, what: str, *shape: int) -> tuple[Tensor, int]:
        """Return a workspace for the threads, and how much of it each has, as `…_workspace_size` in C says.

        All functions share it, so that it stays near the processor; it grows and is kept.
        """
        size, threads = self._sizes[what](*shape), torch.get_num_threads()
        if self._workspace.numel() < threads * size:
            self._workspace = torch.empty(0)  # not both at once
            self._workspace = torch.empty(threads * size)
        return self._workspace, size

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Return a (M, K) · b (K, N); K or the other dimension runs along the memory of each."""
        if "matmul" not in self._kernels or torch.get_num_threads() > MOST_THREADS:
            return a @ b
        c = a.new_empty(a.size(0), b.size(1))
        a_row_major, b_column_major = a.stride(1) == 1, b.stride(1) != 1
        strides = (max(a.stride()), a_row_major, max(b.stride()), b_column_major)
        self("matmul", a, b, c, *c.shape, a.size(1), *strides)
        return c

    def takes(self, w: Tensor) -> bool:
        """Whether `linear.h` takes the layer of these weights."""
        few = torch.get_num_threads() <= MOST_THREADS
        return "mlp" in self._kernels and w.numel() <= LARGEST and few

    def linear(self, x: Tensor, w: Tensor) -> Tensor:
        """Return x (N, A) · w (B, A), turned."""
        if not self.takes(w):
            return self.product(x, w.T)
        y = x.new_empty(x.size(0), w.size(0))
        self("linear", x, w, y, *self.workspace("linear", *w.T.shape), *x.shape, w.size(0))
        return y

    def linear_backward(self, grad: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of x and, in float32, of w, given that of what `linear` returned."""
        if not self.takes(w):
            return self.product(grad, w), self.product(grad.T, x).float()
        before, of_w = torch.empty_like(x), torch.empty(w.shape)
        workspace = self.workspace("linear_backward", *w.T.shape)
        self("linear_backward", grad, x, w, before, of_w, *workspace, *x.shape, w.size(0))
        return before, of_w

    def mlp(self, x: Tensor, up: Tensor, down: Tensor, activation: int) -> Tensor:
        """Return down (C, F) · activation(up (F, C) · x), for each row of x (N, C), which `takes` both."""
        y = torch.empty_like(x)
        self("mlp", x, up, down, y, *self.workspace("mlp", *down.shape), activation, x.size(0), *down.shape)
        return y

    def mlp_backward(
        self, grad: Tensor, x: Tensor, up: Tensor, down: Tensor, activation: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x and, in float32, of up and down, given that of what `mlp` returned."""
        before, of_up, of_down = torch.empty_like(x), torch.empty(up.shape), torch.empty(down.shape)
        workspace = self.workspace("mlp_backward", *down.shape)
        tensors = (grad, x, up, down, before, of_up, of_down)
        self("mlp_backward", *tensors, *workspace, activation, x.size(0), *down.shape)
        return before, of_up, of_down

    def muon(self, matrices: Iterable[tuple[Tensor, ...]], momentum: float, lr: float, decay: float) -> None:
        """Take Muon's step, the largest matrices first, which are given as `muon.h` lists them."""
        table = [[*(tensor.data_ptr() for tensor in each), *each[0].shape] for each in matrices]
        m, n = (max(pick(row[4:]) for row in table) for pick in (min, max))
        taken = torch.zeros(1, dtype=torch.int64)
        self(
            "muon", torch.tensor(table), *self.workspace("muon", m, n), taken, len(table), momentum, lr, decay
        )


def compile_kernels(dtype: torch.dtype, folder: Path) -> Kernels:
    """Compile for `float32` or `bfloat16`, unless the folder has it; ResourceError where that fails."""
    options = training_options(str(dtype).removeprefix("torch."))
    library = compile_library("kernels", options, folder)
    if not library.have_tiles():
        library = compile_library("kernels", [*options, "-DNO_TILES"], folder)
    return Kernels(library, dtype)

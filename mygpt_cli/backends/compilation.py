"""Compiling the training pass for this machine: `kernels.c` on a CPU, torch.compile on a GPU."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mygpt_cli.backends.cpu.kernels import Kernels, compile_kernels
from mygpt_cli.base.errors import MygptError, ResourceError
from mygpt_cli.model.gpt import GPT


@dataclass(frozen=True)
class Compilation:
    """What models train with; `note` says why they train without, where they should not."""

    kernels: Kernels | None = None
    graph: bool = False
    required: bool = False
    note: str = ""

    def apply(self, model: GPT) -> None:
        """Let this model train so."""
        model.kernels = self.kernels
        if self.graph:
            # float32 is meant where it is asked for.
            warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")
            model.compile(dynamic=False)  # a run has one shape: code for several would be slower

    def proved(self, one_step: Callable[[], object]) -> "Compilation":
        """Take a real step; where it fails return none, or raise ResourceError if one was required."""
        if not (self.kernels or self.graph):
            return self
        try:
            one_step()
        except (MygptError, torch.OutOfMemoryError):
            raise
        except Exception as fault:  # whatever a compiler may come up with
            reason = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
            return self._without(ResourceError(f"a compiled step failed: {reason}"))
        return self

    def _without(self, fault: ResourceError) -> "Compilation":
        if self.required:
            raise ResourceError(fault.message, fault.hint or "leave --compile on out")
        return Compilation(note=f"training is not compiled, and slower: {fault.message}")


def compile_training(choice: str, device: torch.device, dtype: torch.dtype, folder: Path) -> Compilation:
    """Compile for `auto` or `on`, into a folder that keeps what is compiled.

    Where that fails, `auto` goes on without and `on` raises ResourceError.
    """
    wanted = Compilation(graph=device.type == "cuda", required=choice == "on")
    if choice == "off" or device.type == "mps":
        return Compilation()
    if wanted.graph:
        return wanted
    try:
        return Compilation(compile_kernels(dtype, folder), required=wanted.required)
    except ResourceError as fault:
        return wanted._without(fault)

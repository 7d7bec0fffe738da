"""Which back-end trains or decodes a model: the one place that picks."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from mygpt_cli.backends.cpu.decoder import WEIGHTS, CPUDecoder, round_weights
from mygpt_cli.backends.cpu.kernels import Kernels, compile_kernels
from mygpt_cli.backends.cpu.native import c_compiler, instructions
from mygpt_cli.backends.cpu.sampler import CompiledSampler
from mygpt_cli.backends.cpu.training_pass import TrainingPass
from mygpt_cli.backends.cuda.graph_decoder import GraphDecoder
from mygpt_cli.backends.interfaces import Decoder, TrainingBackend
from mygpt_cli.backends.reference import Autograd, ReferenceDecoder
from mygpt_cli.base.errors import MygptError, ResourceError, UsageError, did_you_mean
from mygpt_cli.model.gpt import GPT


@dataclass(frozen=True)
class Compilation:
    """What was compiled for training; `note` says why nothing was, where something should have been."""

    kernels: Kernels | None = None
    graph: bool = False
    required: bool = False
    note: str = ""

    def backend(self, model: GPT) -> TrainingBackend:
        """Return what trains this model."""
        if self.graph:
            # float32 is meant where it is asked for.
            warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")
            # A run has one shape: code for several would be slower.
            return Autograd(model, forward=torch.compile(model, dynamic=False))
        if self.kernels is None:
            return Autograd(model)
        if TrainingPass.takes(model, self.kernels):
            return TrainingPass(model, self.kernels)
        return Autograd(model, muon=self.kernels.muon)

    @property
    def compiled(self) -> bool:
        """Whether anything was."""
        return self.kernels is not None or self.graph

    def without(self, reason: str) -> "Compilation":
        """Return none, for this reason; ResourceError if one was required."""
        return self._without(ResourceError(reason))

    def proved(self, one_step: Callable[[], object]) -> "Compilation":
        """Take a real step; if compiled code fails, return none, or raise ResourceError if required."""
        try:
            one_step()
        except (MygptError, torch.OutOfMemoryError):
            raise
        except Exception as fault:  # whatever a compiler may come up with
            if not self.compiled:
                raise
            reason = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
            return self._without(ResourceError(f"a compiled step failed: {reason}"))
        return self

    def _without(self, fault: ResourceError) -> "Compilation":
        if self.required:
            raise ResourceError(fault.message, fault.hint or "leave --compile on out")
        return Compilation(note=f"training without compiled code, which is slower: {fault.message}")


def check_compiler(choice: str, device: torch.device) -> None:
    """Raise now what `compile_training` would raise for sure after other work.

    UsageError when MYGPT_CPU is not what it can be; ResourceError when there is no compiler, for `on`.
    """
    if choice == "off" or device.type != "cpu":
        return
    try:
        instructions()
        c_compiler()
    except ResourceError:
        if choice == "on":
            raise


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


def decoder_for(
    model: GPT, quantize: str | None, folder: Path, warn: Callable[[str], None] = lambda message: None
) -> Decoder:
    """Round a model's weights in place, and return what decodes it fastest.

    `quantize` is `bfloat16`, `int8` or `none`; without one, weights are rounded to bfloat16 where that is
    faster. The folder keeps what is compiled. `warn` is told once what cannot be had and makes it slower.
    UsageError when `quantize` is something else.
    """
    weights = weights_for(quantize)
    sampler = None
    try:
        sampler = CompiledSampler(folder)
        if CPUDecoder.takes(model):
            return CPUDecoder.compiled(model, weights, folder, sampler)
    except ResourceError:  # no compiler: slower, and that is all
        if model.mapped and quantize == "int8":
            raise
    if quantize:
        round_weights(model, weights)
    if model.embedding.device.type == "cuda":
        if quantize == "bfloat16":
            compute_in_bfloat16(model)
        return GraphDecoder(model, warn, sampler)
    return ReferenceDecoder(model, sampler)


def compute_in_bfloat16(model: GPT) -> None:
    """Keep a model's matrices in bfloat16, in place, and compute in it: half the bytes to read."""
    model.compute_dtype = torch.bfloat16
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and name != "positions":
            parameter.data = parameter.data.bfloat16()


def weights_for(quantize: str | None) -> str:
    """Return the kind of WEIGHTS that `quantize` asks for; UsageError when there is none."""
    kinds = {None: "bfloat16", "none": "float32"} | {kind: kind for kind in WEIGHTS if kind != "float32"}
    if quantize not in kinds:
        names = [name for name in kinds if name]
        raise UsageError(
            f"--quantize cannot be '{quantize}'{did_you_mean(str(quantize), names)}",
            f"use one of: {', '.join(names)}",
        )
    return kinds[quantize]

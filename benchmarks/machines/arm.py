"""The C code on 64-bit Arm, under emulation.

    python -m benchmarks.machines.arm

Calls of every kernel are recorded here, on numbers of a real training step, of decoding and of picking, whose
results the tests hold to torch. The code is then compiled for Arm, and `replay.c` makes the same calls under
qemu-aarch64 and compares what comes of them. Needs aarch64-linux-gnu-gcc and qemu-user; clang is tried where
it is there.
"""

import ctypes
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mygpt_cli.backends.cpu import native
from mygpt_cli.backends.cpu.decoder import WEIGHTS, CPUDecoder
from mygpt_cli.backends.cpu.kernels import compile_kernels
from mygpt_cli.backends.cpu.native import VARIABLE, Kernel, build_library, compile_library, training_options
from mygpt_cli.backends.cpu.sampler import CompiledSampler
from mygpt_cli.backends.cpu.training_pass import TrainingPass
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.training.optimizer import Muon

ROOT = "/usr/aarch64-linux-gnu"
SOURCES = Path(native.__file__).with_name("c")
COMPILERS = (
    "aarch64-linux-gnu-gcc",
    "clang-19 --target=aarch64-linux-gnu",
    "clang-14 --target=aarch64-linux-gnu",
)
# What is room to work in, and not a result, by the places of arguments.
SCRATCH = {
    **{"attend": {8}, "attend_backward": {11}, "muon": {1, 3}, "cross_entropy": {3}},
    **{"decode": {10}, "sample": {8}},
}
TABLES = {"muon": 0, "decode": 0}  # arguments that hold addresses
# Differences beside a buffer's largest number. Muon lifts even the smallest singular values: rounding.
ALLOWED = {"float32": 2e-5, "bfloat16": 1.6e-2, "muon in bfloat16": 0.2}
KINDS = {torch.float32: "f", torch.bfloat16: "h"}


@dataclass
class Recording:
    """Calls of kernels in the form that `replay.c` reads; all numbers are of 64 bits."""

    calls: list[bytes] = field(default_factory=list)
    dtype: str = "float32"

    def bytes(self) -> bytes:
        """Return the file's contents."""
        return _number(len(self.calls)) + b"".join(self.calls)


def _number(value: int) -> bytes:
    return struct.pack("<q", value)


def _address(holder: Any) -> int:
    return holder.data_ptr() if isinstance(holder, Tensor) else ctypes.addressof(holder)


def _contents(holder: Any) -> bytes:
    if not isinstance(holder, Tensor):
        return bytes(holder)
    size = 1 + sum((n - 1) * step for n, step in zip(holder.shape, holder.stride(), strict=True))
    return ctypes.string_at(holder.data_ptr(), size * holder.element_size()) if holder.numel() else b""


@contextmanager
def recording(into: Recording, known: dict[int, Tensor]) -> Iterator[None]:
    """Record all calls; `known` has the tensors whose addresses tables hold."""
    plain, made = Kernel.__call__, Kernel.__init__

    def remember(self: Kernel, library: ctypes.CDLL, name: str, letters: str) -> None:
        made(self, library, name, letters)
        self.__dict__.update(name=name, letters=letters)

    def record(self: Kernel, *arguments: Any, alone: bool = False) -> None:
        name, letters = self.__dict__["name"], self.__dict__["letters"]
        buffers: list[Any] = []
        links: list[tuple[int, int, int]] = []
        places: dict[int, int] = {}  # of arguments among the buffers, one of which may be several arguments
        for i, argument in enumerate(arguments):
            if letters[i] == "t" and argument is not None:
                same = [n for n, buffer in enumerate(buffers) if _address(buffer) == _address(argument)]
                places[i] = same[0] if same else len(buffers)
                buffers += [] if same else [argument]
        if name in TABLES:
            table = arguments[TABLES[name]]
            for n, entry in enumerate(table.flatten().tolist()):
                if entry in known:
                    links.append((places[TABLES[name]], 8 * n, len(buffers)))
                    buffers.append(known[entry])
        before = [_contents(buffer) for buffer in buffers]
        plain(self, *arguments, alone=alone)
        apart = SCRATCH.get(name, set()) | {TABLES.get(name, -1)}
        skipped = {places[i] for i in apart if i in places}
        told = [_number(len(name)), name.encode()]
        allowed = ALLOWED.get(f"{name} in {into.dtype}", ALLOWED[into.dtype])
        told += [_number(round(allowed * 1e9)), _number(len(buffers))]
        for n, (buffer, contents) in enumerate(zip(buffers, before, strict=True)):
            kind = KINDS.get(buffer.dtype, "b") if isinstance(buffer, Tensor) else "b"
            told += [_number(len(contents)), _number(ord("-" if n in skipped else kind)), contents]
            told.append(_contents(buffer))
        told.append(_number(len(links)))
        told += [_number(part) for link in links for part in link]
        told.append(_number(len(arguments)))
        for i, argument in enumerate(arguments):
            whole = places.get(i, -1) if letters[i] == "t" else argument
            told += [
                _number(ord(letters[i])),
                struct.pack("<d", whole) if letters[i] == "r" else _number(whole),
            ]
        into.calls.append(b"".join(told))

    Kernel.__init__, Kernel.__call__ = remember, record  # type: ignore[method-assign]
    try:
        yield
    finally:
        Kernel.__init__, Kernel.__call__ = made, plain  # type: ignore[method-assign]


def new_model(arch: str, **parts: Any) -> GPT:
    """Return a small model with random weights."""
    config = configure(arch, vocab_size=97, layers=2, heads=2, width=48, context=70, **parts)
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def llamas() -> tuple[GPT, GPT]:
    """Return models with a gate, gains and shared keys, and one of them with norms of queries and keys."""
    return new_model("llama", kv_heads=1), new_model("qwen3", kv_heads=1, head_width=32)


def record_training(dtype: torch.dtype, folder: Path) -> Recording:
    """Record training steps, with Muon's, of models of many parts."""
    made, known = Recording(dtype=str(dtype).removeprefix("torch.")), dict[int, Tensor]()
    with recording(made, known):
        for model in (new_model("gpt2"), new_model("nanochat"), *llamas()):
            model.compute_dtype = dtype
            backend = TrainingPass(model, compile_kernels(dtype, folder))
            ids = torch.randint(0, 97, (2, 5, 71), generator=torch.Generator().manual_seed(1))
            backend.accumulate_gradients(ids[0, :, :-1], ids[1, :, 1:])
            inside = {
                n: p.detach() for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2
            }
            for name, parameter in model.named_parameters():
                if name in inside:
                    inside[name].grad = parameter.grad
            muon = Muon(inside, model.config, dtype)
            known.update({t.data_ptr(): t for matrix in muon._matrices() for t in matrix})
            muon.step(0.02, 0.1, backend.muon)
    return made


def record_decoding(kind: str, folder: Path) -> Recording:
    """Record decoding, of one sequence and of several, of models of many parts."""
    made, known = Recording(), dict[int, Tensor]()
    with torch.inference_mode(), recording(made, known):
        for model in (
            new_model("gpt2"),
            new_model("nanochat", kv_heads=1),
            new_model("gpt2", activation="gelu"),
            *llamas(),
        ):
            library = compile_library("decode", WEIGHTS[kind], folder)
            one = CPUDecoder(model, kind, library)
            known.update({t.data_ptr(): t for t in one._tensors})
            for batch in (1, 3):
                cache = model.new_cache(batch)
                for time in (1, 1, 9):
                    one.decode([(7 * n) % 97 for n in range(batch * time)], cache)
    return made


def record_sampling(folder: Path) -> Recording:
    """Record the drawing of tokens."""
    made = Recording()
    with recording(made, {}):
        draw = CompiledSampler(folder)
        logits = 3 * torch.randn(40, 5000, generator=torch.Generator().manual_seed(2))
        draws = torch.rand(40, generator=torch.Generator().manual_seed(3)).tolist()
        for filters in ({}, {"top_k": 40}, {"top_p": 0.9, "temperature": 0.8}, {"min_p": 0.05}):
            draw(logits, draws, **filters)
    return made


def replayed(compiler: str, source: str, options: list[str], made: Recording, folder: Path) -> bool:
    """Compile for Arm, make the same calls, print the largest differences; whether all agree."""
    os.environ["CC"] = compiler
    library = build_library(source, options, folder / "arm")
    file = folder / "calls"
    file.write_bytes(made.bytes())
    done = subprocess.run(
        ["qemu-aarch64", "-L", ROOT, str(folder / "replay"), str(library), str(file)],
        capture_output=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        timeout=600,
    )
    worst: dict[str, float] = {}
    for line in done.stdout.decode().splitlines():
        name, differs = line.split()
        worst[name] = max(worst.get(name, 0.0), float(differs))
    what = " ".join([source, *(option for option in options if option.startswith("-D"))])
    state = "agree" if not done.returncode else f"FAILED ({done.returncode}) {done.stderr.decode()}"
    told = ", ".join(f"{name} {value:.0e}" for name, value in worst.items())
    print(f"{compiler}: {what}: {len(made.calls)} calls {state}; largest differences: {told}")
    return done.returncode == 0


def main() -> None:
    """Record, compile, replay; exit 1 when anything differs."""
    if not shutil.which(COMPILERS[0]) or not shutil.which("qemu-aarch64"):
        print("Arm: skipped, since gcc-aarch64-linux-gnu or qemu-user is not installed")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recorded = [("sample", list[str](), record_sampling(folder))]
        for dtype in (torch.float32, torch.bfloat16):
            options = training_options(str(dtype).removeprefix("torch."))
            recorded.append(("kernels", options, record_training(dtype, folder)))
        recorded += [("decode", flags, record_decoding(kind, folder)) for kind, flags in WEIGHTS.items()]
        source, link = Path(__file__).with_name("replay.c"), ["-ldl", "-lm", "-Wl,--no-as-needed", "-lgomp"]
        build = [
            COMPILERS[0],
            "-O1",
            "-Wall",
            "-Wextra",
            f"-I{SOURCES}",
            "-Werror",
            str(source),
            "-o",
            str(folder / "replay"),
        ]
        subprocess.run([*build, *link], check=True)
        os.environ[VARIABLE] = "generic"
        compilers = [compiler for compiler in COMPILERS if shutil.which(compiler.split()[0])]
        agree = [replayed(compiler, *each, folder) for compiler in compilers for each in recorded]
    sys.exit(int(not all(agree)))


if __name__ == "__main__":
    main()

"""`kernels.c`, compiled for this very machine."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mygpt_cli.errors import ResourceError

SOURCE = Path(__file__).with_name("kernels.c")
# Sums may be taken in any order, as the hardware likes; NaN and infinity still mean what they mean.
FLAGS = [
    *("-std=c11", "-O3", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math"),
    *("-fno-signed-zeros", "-fassociative-math", "-freciprocal-math"),
]
WIDE_VECTORS = "-mprefer-vector-width=512"  # which compilers for x86 avoid otherwise
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
    """Compile for `float32` or `bfloat16` with the C compiler of this machine, unless `folder` has it.

    The compiler is CC, or cc. Raises ResourceError when there is none, or it fails.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise ResourceError("there is no C compiler", "install gcc or clang, or name one with CC")
    flags = FLAGS + ["-DBFLOAT16"] * (dtype == torch.bfloat16)
    flags += [WIDE_VECTORS] * (platform.machine() in ("x86_64", "AMD64"))
    key = hashlib.sha256("\0".join([SOURCE.read_text(), compiler, *flags, _processor()]).encode())
    library = folder / f"kernels-{key.hexdigest()[:16]}.so"
    try:
        if library.exists():
            with suppress(OSError):  # damaged, or of another system
                return Kernels(ctypes.CDLL(str(library)), dtype)
        _build(compiler, flags, library)
        return Kernels(ctypes.CDLL(str(library)), dtype)
    except subprocess.CalledProcessError as fault:
        last = fault.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ResourceError(f"the C compiler failed: {last[0]}", "name another one with CC") from None
    except OSError as fault:
        raise ResourceError(
            f"compiled code cannot be used: {fault}", "name another compiler with CC"
        ) from None


def _build(compiler: str, flags: list[str], library: Path) -> None:
    """Compile and link into a file that appears whole or not at all."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        parts, new = f"{folder}/kernels.o", f"{folder}/kernels.so"
        _run([compiler, *flags, "-fopenmp", "-c", str(SOURCE), "-o", parts])
        # Without a threading library of its own it finds torch's, whose threads are there already.
        _run([compiler, "-shared", parts, "-lm", "-o", new])
        Path(new).replace(library)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603


def _processor() -> str:
    """Return what identifies the kind of processor that the code is compiled for."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    return "\n".join(
        [platform.machine(), *sorted({line for line in lines if line[:5] in ("model", "flags")})]
    )

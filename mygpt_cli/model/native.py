"""C code of this package, compiled for this very machine when it is first needed."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mygpt_cli.errors import ResourceError
from mygpt_cli.locking import waited_lock

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
WIDE_VECTORS = "-mprefer-vector-width=512"  # which compilers for x86 avoid otherwise


def training_options(dtype: str) -> list[str]:
    """Return the options for `kernels.c` and numbers of this type, `float32` or `bfloat16`.

    Sums may be taken in any order, as the hardware likes; NaN and infinity still mean what they mean. With
    -O2 it is as fast as with -O3, and ready in two thirds of the time.
    """
    fast = ["-O2", "-fvect-cost-model=dynamic"]
    free = ["-fno-signed-zeros", "-fassociative-math", "-freciprocal-math"]
    return [*fast, *free, *["-DBFLOAT16"] * (dtype == "bfloat16")]


def compile_library(name: str, options: Sequence[str], folder: Path) -> ctypes.CDLL:
    """Load `name`.c, compiled with the C compiler of this machine unless `folder` has it already.

    The compiler is CC, or cc. Raises ResourceError when there is none, or it fails.
    """
    library = build_library(name, options, folder)
    try:
        with suppress(OSError):  # damaged, or of another system
            return ctypes.CDLL(str(library))
        library.unlink(missing_ok=True)
        return ctypes.CDLL(str(build_library(name, options, folder)))
    except OSError as fault:
        raise ResourceError(f"compiled code cannot be used: {fault}", "name another one with CC") from None


def build_library(name: str, options: Sequence[str], folder: Path) -> Path:
    """Return the file with `name`.c compiled, made if need be; raises as `compile_library` does."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise ResourceError("there is no C compiler", "install gcc or clang, or name one with CC")
    source = Path(__file__).with_name(f"{name}.c")
    parts = [source, *sorted(source.parent.glob("*.h"))]
    flags = [*FLAGS, *[WIDE_VECTORS] * (platform.machine() in ("x86_64", "AMD64")), *options]
    key = hashlib.sha256(
        "\0".join([*(part.read_text() for part in parts), compiler, *flags, _processor()]).encode()
    )
    library = folder / f"{name}-{key.hexdigest()[:16]}.so"
    try:
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with waited_lock(library.with_suffix(".lock"), lambda: None):
                if not library.exists():
                    _build(compiler, flags, source, library)
    except subprocess.CalledProcessError as fault:
        last = fault.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ResourceError(f"the C compiler failed: {last[0]}", "name another one with CC") from None
    except OSError as fault:
        raise ResourceError(f"compiled code cannot be used: {fault}", "name another one with CC") from None
    return library


def build_training_ahead(dtype: str, folder: Path) -> None:
    """Begin to compile what training will need while other things load; what fails will fail again then."""
    if dtype == "auto":
        dtype = "bfloat16" if {"amx_bf16", "avx512_bf16"} & set(_processor().split()) else "float32"

    def build() -> None:
        with suppress(ResourceError):
            build_library("kernels", training_options(dtype), folder)

    threading.Thread(target=build).start()


def _build(compiler: str, flags: list[str], source: Path, library: Path) -> None:
    """Compile and link into a file that appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        parts, new = f"{folder}/parts.o", f"{folder}/library.so"
        _run([compiler, *flags, "-fopenmp", "-c", str(source), "-o", parts])
        # Without a threading library of its own it finds torch's, whose threads are there already.
        _run([compiler, "-shared", parts, "-lm", "-o", new])
        Path(new).replace(library)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError:
        raise ResourceError(
            f"there is no C compiler '{command[0]}'", "install gcc or clang, or name one with CC"
        ) from None


def _processor() -> str:
    """Return what identifies the kind of processor that the code is compiled for."""
    about = Path("/proc/cpuinfo")
    lines = set(about.read_text().splitlines()) if about.exists() else set()
    return "\n".join([platform.machine(), *sorted(line for line in lines if line[:5] in ("model", "flags"))])

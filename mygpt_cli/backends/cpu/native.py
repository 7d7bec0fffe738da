"""C code of this package, compiled for this very machine when it is first needed.

This is the one place that decides for which instructions it is compiled: what the processor has, or what
MYGPT_CPU names.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mygpt_cli.base.errors import MygptError, ResourceError, UsageError, did_you_mean
from mygpt_cli.base.locking import waited_lock

if TYPE_CHECKING:  # torch takes a second to load, and compiling begins before
    from torch import Tensor

KINDS = ("model", "flags", "Features", "CPU ")  # lines of /proc/cpuinfo that tell processors apart, Arm's too
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")
VARIABLE = "MYGPT_CPU"
ON_X86 = platform.machine() in ("x86_64", "AMD64")
# Compilers for x86 avoid vectors of 512 bits unless they are told to prefer them.
INSTRUCTIONS = (
    {
        "native": ["-march=native", "-mprefer-vector-width=512"],
        "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
        "avx2": ["-march=x86-64-v3"],
        "generic": [],
    }
    if ON_X86
    else {"native": ["-mcpu=native"], "generic": []}
)
NEEDED = {  # of the processor, as Linux names it
    "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "avx2": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
}
NONE = "none"  # no compiled code at all
SHARED = ["-shared", *["-undefined", "dynamic_lookup"] * (sys.platform == "darwin")]
GCC_ONLY = ["-fvect-cost-model=dynamic"]  # with -O2, which otherwise makes too few vectors


def training_options(dtype: str) -> list[str]:
    """Return the options for `kernels.c` and numbers of this type, `float32` or `bfloat16`.

    Sums may be taken in any order, as the hardware likes, which gcc does not do (it would also need
    -fno-trapping-math, and is no faster with it); NaN and infinity still mean what they mean. With
    -O2 it is as fast as with -O3, and ready in two thirds of the time.
    """
    free = ["-fno-signed-zeros", "-fassociative-math", "-freciprocal-math"]
    return ["-O2", *GCC_ONLY, *free, *["-DBFLOAT16"] * (dtype == "bfloat16")]


class Kernel:
    """A function of a compiled library that all threads call together, each for its own part of the work.

    `letters` has one for each argument: `t` a tensor or an array of ctypes, or None; `i` an integer; `r` a
    real number.
    """

    def __init__(self, library: ctypes.CDLL, name: str, letters: str) -> None:
        self._function = ctypes.cast(library[name], ctypes.c_void_p)
        self._run = library["run"]
        self._run.argtypes, self._run.restype = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int], None
        self._arguments = struct.Struct("".join("d" if letter == "r" else "q" for letter in letters))

    def __call__(self, *arguments: "Tensor | ctypes.Array[Any] | float | None", alone: bool = False) -> None:
        """Call it, on all threads or on this one alone."""
        self._run(self._function, self._arguments.pack(*map(_number, arguments)), alone)


def _number(argument: "Tensor | ctypes.Array[Any] | float | None") -> float:
    if argument is None:
        return 0
    if isinstance(argument, int | float):
        return argument
    return ctypes.addressof(argument) if isinstance(argument, ctypes.Array) else argument.data_ptr()


def compile_library(name: str, options: Sequence[str], folder: Path) -> ctypes.CDLL:
    """Load `name`.c, compiled with the C compiler of this machine unless `folder` has it already.

    The compiler is CC, as make takes it, or cc. Raises ResourceError when there is none, when it fails, or
    when MYGPT_CPU says that nothing is to be compiled; UsageError when MYGPT_CPU is not what it can be.
    """
    library = build_library(name, options, folder)
    try:
        with suppress(OSError):  # damaged, or of another system
            return ctypes.CDLL(str(library))
        library.unlink(missing_ok=True)
        return ctypes.CDLL(str(build_library(name, options, folder)))
    except OSError as fault:
        raise ResourceError(
            f"compiled code cannot be used: {fault}", "name another compiler with the variable CC"
        ) from None


def build_library(name: str, options: Sequence[str], folder: Path) -> Path:
    """Return the file with `name`.c compiled, made if need be; raises as `compile_library` does."""
    flags = [*FLAGS, *instructions(), *options]
    compiler = c_compiler()
    source = Path(__file__).with_name("c") / f"{name}.c"
    parts = [source, *sorted(source.parent.glob("*.h"))]
    texts = [part.read_text(encoding="utf-8") for part in parts]
    key = hashlib.sha256("\0".join([*texts, *compiler, *flags, _processor()]).encode())
    library = folder / f"{name}-{key.hexdigest()[:16]}.so"
    try:
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with waited_lock(library.with_suffix(".lock"), lambda: None):
                if not library.exists():
                    _build(compiler, flags, source, library)
    except subprocess.CalledProcessError as fault:
        last = fault.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise ResourceError(
            f"the C compiler failed: {last[0]}", "name another compiler with the variable CC"
        ) from None
    except OSError as fault:
        raise ResourceError(
            f"compiled code cannot be used: {fault}", "name another compiler with the variable CC"
        ) from None
    return library


def instructions() -> list[str]:
    """Return the options that name the processor's instructions.

    Raises ResourceError where MYGPT_CPU allows none, UsageError where it names some that are not there.
    """
    name = os.environ.get(VARIABLE) or "native"
    if name == NONE:
        raise ResourceError(f"{VARIABLE}={NONE} turns compiled code off", f"unset {VARIABLE}")
    if name not in INSTRUCTIONS:
        known = [*INSTRUCTIONS, NONE]
        raise UsageError(f"{VARIABLE} cannot be '{name}'{did_you_mean(name, known)}", ", ".join(known))
    has = set(_processor().split())
    if "sse2" in has and not NEEDED.get(name, set()) <= has:
        raise UsageError(f"this processor lacks the instructions of {VARIABLE}={name}", f"unset {VARIABLE}")
    return INSTRUCTIONS[name]


def c_compiler() -> list[str]:
    """Return the command of the C compiler: CC, which may have options, or else cc, gcc or clang."""
    given = os.environ.get("CC", "")
    if given and shutil.which(given):  # a path with spaces in it
        return [given]
    if command := shlex.split(given) if given.strip() else []:
        return command
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        raise ResourceError(
            "there is no C compiler", "install gcc or clang, or name one with the variable CC"
        )
    return [found]


def build_training_ahead(dtype: str, folder: Path) -> None:
    """Begin to compile what training will need while other things load; what fails will fail again then."""
    if dtype == "auto":
        dtype = "bfloat16" if {"amx_bf16", "avx512_bf16"} & set(_processor().split()) else "float32"

    def build() -> None:
        with suppress(MygptError):
            build_library("kernels", training_options(dtype), folder)

    threading.Thread(target=build).start()


def _build(compiler: Sequence[str], flags: Sequence[str], source: Path, library: Path) -> None:
    """Compile and link into a file that appears whole or not at all."""
    if not _is_gcc(compiler):
        flags = [flag for flag in flags if flag not in GCC_ONLY]
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        parts, new = f"{folder}/parts.o", f"{folder}/library.so"
        _run([*compiler, *flags, "-c", str(source), "-o", parts])
        _run([*compiler, *SHARED, parts, "-lm", "-o", new])
        Path(new).replace(library)


def _is_gcc(compiler: Sequence[str]) -> bool:
    """Whether this is GCC, and not clang, which says that it is GCC too."""
    return b"__clang__" not in _run([*compiler, "-dM", "-E", "-x", "c", os.devnull])


def _run(command: list[str]) -> bytes:
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603
    except FileNotFoundError:
        raise ResourceError(
            f"there is no C compiler '{command[0]}'", "install gcc or clang, or name one with the variable CC"
        ) from None


def _processor() -> str:
    """Return what identifies the kind of processor that the code is compiled for."""
    about = Path("/proc/cpuinfo")
    lines = set(about.read_text(encoding="utf-8", errors="replace").splitlines()) if about.exists() else set()
    known = sorted(line for line in lines if line.startswith(KINDS))
    return "\n".join([platform.machine(), *known])

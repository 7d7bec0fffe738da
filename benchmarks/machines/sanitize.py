"""`python -m benchmarks.machines.sanitize`: the tests of the C code with sanitizers, and its warnings.

First everything is compiled with -Wall -Wextra, by gcc and clang, for processors of all kinds: a warning is
an error. Then the tests run on code with gcc's sanitizers of addresses and undefined behaviour.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mygpt_cli.backends.cpu import native
from mygpt_cli.backends.cpu.decoder import WEIGHTS

TESTS = [f"tests/backends/cpu/test_{name}.py" for name in ("kernels", "decoder", "training_pass", "sampler")]
TESTS.append("tests/training/test_optimizer.py")
SANITIZED = "gcc -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
PROCESSORS = ("x86-64", "x86-64-v3", "x86-64-v4", "cooperlake", "sapphirerapids")


def warnings() -> int:
    """Compile everything with all warnings; return how many of the compilations failed."""
    failed = count = 0
    sources = [("sample", list[str]()), *(("decode", options) for options in WEIGHTS.values())]
    sources += [("kernels", native.training_options(dtype)) for dtype in ("float32", "bfloat16")]
    sources += [("kernels", [*native.training_options("bfloat16"), "-DNO_TILES"])]
    folder = Path(native.__file__).with_name("c")
    for compiler in filter(shutil.which, ("gcc", "clang", "clang-14", "clang-19")):
        for processor in PROCESSORS:
            for name, options in sources:
                kept = [flag for flag in options if "clang" not in compiler or flag not in native.GCC_ONLY]
                flags = [*native.FLAGS, f"-march={processor}", "-Wall", "-Wextra", "-Werror", *kept]
                with tempfile.NamedTemporaryFile(suffix=".o") as made:
                    command = [compiler, *flags, "-c", str(folder / f"{name}.c"), "-o", made.name]
                    done = subprocess.run(command, capture_output=True, check=False)
                count += 1
                failed += done.returncode != 0
                if done.returncode:
                    print(" ".join(command), done.stderr.decode(errors="replace"), sep="\n")
    print(f"-Wall -Wextra: {count} compilations, {failed} with warnings", flush=True)
    return failed


def findings() -> int:
    """Run the tests with sanitizers; return pytest's exit code."""
    libraries = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, check=True)
        .stdout.decode()
        .strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = os.environ | {
        "CC": SANITIZED,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",  # Python keeps what it has until the end
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }
    compiler = "not a_damaged_library and not no_compiler and not a_compiler_that_fails"
    command = [sys.executable, "-m", "pytest", "-q", "-x", *TESTS, "-k", compiler]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(int(bool(warnings()) | bool(findings())))

"""`python -m benchmarks.machines [--short]`: tests of compiled code and of commands, as on other machines.

Each row runs them as on a processor that has fewer instructions, for the C code (MYGPT_CPU) and for torch, or
with another compiler. What this machine lacks is skipped and named. `--short` has a row for each kind of
processor that is not the one at hand, and a part of the tests.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from mygpt_cli.backends.cpu.native import VARIABLE, instructions
from mygpt_cli.base.errors import MygptError

COMPILED = ("kernels", "decoder", "training_pass", "sampler")  # of tests/backends/cpu
RESUMING = ["tests/cli/test_train.py", "-k", "resum or bits"]
COMMANDS = [
    "tests/cli/test_sample.py",
    "tests/training/test_trainer.py",
    "tests/training/test_optimizer.py",
]
SHORT = ["tests/training/test_trainer.py"]
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
AVX512 = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}
WHOLE = "what the processor has"
PROCESSORS: dict[str, dict[str, str]] = {
    WHOLE: {VARIABLE: "native"},
    "AVX-512 without AMX": {VARIABLE: "avx512", **AVX512},
    "AVX2 only": {VARIABLE: "avx2", **AVX2},
    "no compiled code": {VARIABLE: "none"},
}
COMPILERS = tuple(f"gcc-{n}" for n in range(11, 16)) + tuple(f"clang-{n}" for n in range(14, 21))


def rows(*, short: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """List what is tried: its name, and the variables that make it so."""
    yield from (each for each in PROCESSORS.items() if not short or each[0] != WHOLE)
    if not short:
        yield from ((compiler, {"CC": compiler}) for compiler in COMPILERS if shutil.which(compiler))


def missing(variables: Mapping[str, str]) -> str:
    """Say what this machine lacks for a row, or nothing."""
    os.environ[VARIABLE] = variables.get(VARIABLE, "")
    try:
        instructions()
    except MygptError as fault:
        return "" if variables[VARIABLE] == "none" else fault.message
    finally:
        del os.environ[VARIABLE]
    return ""


def tried(variables: Mapping[str, str], *, short: bool) -> tuple[bool, str]:
    """Run the tests of one row; return whether they passed, and what pytest says in the end."""
    compiled = variables.get(VARIABLE) != "none"
    files = [f"tests/backends/cpu/test_{name}.py" for name in COMPILED] if compiled else []
    calls = [[*files, *SHORT]] if short else [[*files, *COMMANDS], RESUMING]
    passed, told = True, []
    for arguments in calls:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", *arguments],
            env=os.environ | variables,
            capture_output=True,
            check=False,
        )
        lines = done.stdout.decode(errors="replace").strip().splitlines() or ["no output"]
        passed &= done.returncode == 0
        told.append(re.sub(r" in .*", "", lines[-1].strip("= ")))
        if done.returncode:
            print("\n".join(lines[-40:]), file=sys.stderr)
    return passed, "; ".join(told)


def main() -> None:
    """Print a line for each row; exit 1 when one fails."""
    short = "--short" in sys.argv[1:]
    print("| machine | result | seconds |\n|---|---|---|", flush=True)
    failed = False
    for name, variables in rows(short=short):
        begin = time.perf_counter()
        if lack := missing(variables):
            print(f"| {name} | skipped: {lack} | |", flush=True)
            continue
        passed, told = tried(variables, short=short)
        failed |= not passed
        print(f"| {name} | {told} | {time.perf_counter() - begin:.0f} |", flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()

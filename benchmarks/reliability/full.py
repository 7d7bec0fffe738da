"""`python -m benchmarks.reliability.full [--count 20]`: a small file system that is really full.

Real training saves into a file system of a few hundred kilobytes, which is filled at a random moment, for a
while or to the end, or was too small from the beginning. Training goes on and says so; the checkpoint saved
before stays whole and nothing half-written stays; exit code 5 when the last save failed, and with room again
the run goes on to the bits of one that nothing happened to. Linux, as root or with user namespaces.
"""

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.reliability.commands import (
    LOG,
    TINY,
    digest,
    ended,
    mygpt,
    said,
    start,
    step_of,
    wait_for,
    write_text,
)
from benchmarks.reliability.samples import Row, print_table
from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.checkpoints import checkpoint

STEPS = 150
KILOBYTES = {"full for a while": 2000, "full to the end": 2000, "too small": 60}


@contextlib.contextmanager
def file_system(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a file system of this size in a folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more fits, to the last byte."""
    with path.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass


def command(folder: Path) -> list[object]:
    """Return the arguments that train into the file system of a folder."""
    often = ["--save-every", 2, "--eval-every", 40]
    return [
        "train",
        write_text(folder),
        *TINY,
        "--steps",
        STEPS,
        *often,
        "--name",
        "run",
        "--out",
        folder / "out",
    ]


def filled(folder: Path, kind: str, rng: random.Random, expected: str) -> str:
    """Train into a file system that becomes full; return what was wrong."""
    out = folder / "out"
    run, ballast = out / "run-001", out / "ballast"
    process = start(folder, *command(folder))
    if kind != "too small":
        wait_for(lambda: step_of(run) >= 3, process)
        time.sleep(rng.uniform(0.0, 0.2))
        fill(ballast)
        if kind == "full for a while":
            time.sleep(rng.uniform(0.0, 0.2))
            ballast.unlink()
    code = ended(process)
    told = (folder / LOG).read_text(encoding="utf-8")
    left = [str(path) for path in out.glob("*/*.new")]
    if code != (0 if kind == "full for a while" else 5) or "Traceback" in told or left:
        return f"exit {code}, {left}: {said(folder)}"
    if kind == "too small":
        return "" if "No space left" in told else said(folder)
    try:
        checkpoint.load(run, prefer=("last",))
    except CheckpointError as error:
        return error.message
    if kind == "full to the end":
        if "training goes on" not in told:
            return f"it did not say so: {said(folder)}"
        ballast.unlink()
        if mygpt(folder, "train", "--resume", run, "--quiet"):
            return said(folder)
    return "" if digest(run) == expected else "another end"


def full(parent: Path, count: int, seed: int = 1) -> dict[str, Row]:
    """Fill file systems so many times in each way."""
    rng = random.Random(seed)
    rows = {kind: Row() for kind in KILOBYTES}
    (parent / "whole").mkdir()
    if mygpt(parent / "whole", *command(parent / "whole")):
        raise AssertionError(said(parent / "whole"))
    expected = digest(parent / "whole" / "out" / "run-001")
    for number in range(count):
        for kind, kilobytes in KILOBYTES.items():
            folder = parent / f"{kind}-{number}".replace(" ", "-")
            folder.mkdir()
            with file_system(folder / "out", kilobytes):
                why = filled(folder, kind, rng, expected)
            rows[kind].add("unclean" if why else "nothing lost", f"{number}: {why}")
    return rows


def main() -> int:
    """Fill, and print the table; the exit code is 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="file systems of each kind")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        inside = [
            "unshare",
            "--map-root-user",
            "--mount",
            sys.executable,
            "-m",
            "benchmarks.reliability.full",
        ]
        os.execvp(inside[0], [*inside, "--count", str(options.count), "--inside"])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = full(Path(folder), options.count)
    return print_table(rows, ("nothing lost",))


if __name__ == "__main__":
    sys.exit(main())

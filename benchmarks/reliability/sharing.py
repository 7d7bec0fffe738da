"""`python -m benchmarks.reliability.sharing [--count 20]`: two processes at once, and nothing mixed.

Two go on with the same run at the same moment: one of them does, and the other says so with exit code 5. Two
begin on the same text under the same name: each has a run of its own. All end with the bits of a run alone.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.reliability.commands import (
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
from benchmarks.reliability.samples import MEMORY, Row, print_table

STEPS = 60


def command(folder: Path) -> list[object]:
    """Return the arguments that train in a folder."""
    often = ["--save-every", 2, "--eval-every", 15]
    return ["train", write_text(folder), *TINY, "--steps", STEPS, *often, "--name", "run", "--quiet"]


def resumed_twice(folder: Path) -> tuple[list[int], list[Path]]:
    """Stop a run and go on with it twice at once."""
    run = folder / "checkpoints" / "run-001"
    first = start(folder, *command(folder))
    wait_for(lambda: step_of(run) >= 5, first)
    os.kill(first, signal.SIGTERM)
    if ended(first) != 143:
        raise AssertionError(said(folder))
    both = [start(folder, "train", "--resume", run, "--quiet") for _ in range(2)]
    return sorted(map(ended, both)), [run]


def begun_twice(folder: Path) -> tuple[list[int], list[Path]]:
    """Begin two runs at once."""
    both = [start(folder, *command(folder)) for _ in range(2)]
    return sorted(map(ended, both)), [folder / "checkpoints" / f"run-00{number}" for number in (1, 2)]


def sharing(parent: Path, count: int) -> dict[str, Row]:
    """Start two at once so many times in each way."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        if mygpt(Path(name), *command(Path(name))):
            raise AssertionError(said(Path(name)))
        expected = digest(Path(name, "checkpoints", "run-001"))
    kinds: dict[str, tuple[Callable[[Path], tuple[list[int], list[Path]]], list[int]]] = {
        "one run resumed twice": (resumed_twice, [0, 5]),
        "two runs begun at once": (begun_twice, [0, 0]),
    }
    rows = {title: Row() for title in kinds}
    for title, (act, codes) in kinds.items():
        for _ in range(count):
            with tempfile.TemporaryDirectory(dir=parent) as name:
                found, runs = act(Path(name))
                why = "" if found == codes else f"exits {found}: {said(Path(name))}"
                why = why or ("" if all(digest(run) == expected for run in runs) else "another end")
            rows[title].add("unclean" if why else "not mixed", why)
    return rows


def main() -> int:
    """Start them and print the table; the exit code is 1 when anything was mixed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="pairs of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        rows = sharing(Path(folder), options.count)
    return print_table(rows, ("not mixed",))


if __name__ == "__main__":
    sys.exit(main())

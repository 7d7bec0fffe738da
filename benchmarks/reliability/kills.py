"""`python -m benchmarks.reliability.kills [--count 200]`: real training, killed at random moments.

`mygpt train` saves every few steps and is killed with SIGKILL; `mygpt train --resume` goes on and is killed
again, until the run has ended. After each kill the run must open, no more than the steps since its last save
may be lost, measured against the steps that metrics.jsonl tells of, and in the end it must have the very bits
of a run that nothing happened to. Linux and macOS.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.reliability.commands import (
    TINY,
    digest,
    ended,
    mygpt,
    said,
    saved_step,
    start,
    step_of,
    write_text,
)
from benchmarks.reliability.samples import MEMORY, Row, print_table
from mygpt_cli.base.errors import MygptError
from mygpt_cli.checkpoints import checkpoint

STEPS, SAVED_EVERY = 120, 3
LONGEST = 1.0  # seconds until a kill


def kills(folder: Path, count: int, seed: int = 1) -> Row:
    """Kill training so many times; count what came of it."""
    rng = random.Random(seed)
    row = Row()
    arguments = ["train", write_text(folder), *TINY, "--steps", STEPS, "--save-every", SAVED_EVERY]
    arguments += ["--eval-every", 7, "--dropout", 0.1, "--quiet", "--tokenizer", "char"]
    if mygpt(folder, *arguments, "--name", "whole") != 0:
        raise RuntimeError(said(folder))
    expected = digest(folder / "checkpoints" / "whole-001")
    killed, runs = 0, 0
    while killed < count:
        runs += 1
        run = folder / "checkpoints" / f"run-{runs:03d}"
        command: list[object] = [*arguments, "--name", "run"]
        while True:
            process = start(folder, *command)
            time.sleep(rng.uniform(0.0, LONGEST))
            os.kill(process, signal.SIGKILL)
            code = ended(process)
            what = f"{run.name}, kill {killed}"
            if code == 0 or ((run / "last").exists() and saved_step(run / "last") == STEPS):
                row.add("same end" if digest(run) == expected else "unclean", f"{what}: another end")
                break
            killed += 1
            if code != -signal.SIGKILL:
                row.add("unclean", f"{what}: exit {code}: {said(folder)}")
                break
            outcome, why = judged(run)
            row.add(outcome, f"{what}: {why}")
            if outcome == "nothing yet":
                runs -= not run.exists()
                break
            command = ["train", "--resume", run, "--quiet"]
    return row


def judged(run: Path) -> tuple[str, str]:
    """Open a run that was killed; say whether it can be used, and what was lost."""
    try:
        found = checkpoint.load(run, prefer=("last",)).folder
        checkpoint.load_optimizer(found)
        lost = step_of(run) - saved_step(found)
    except MygptError as error:
        if step_of(run) <= SAVED_EVERY and not (run / "last").exists():
            return "nothing yet", ""
        return "unclean", error.message
    return ("usable", "") if lost <= SAVED_EVERY else ("unclean", f"{lost} steps were lost")


def main() -> int:
    """Kill, resume, and print the table; the exit code is 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="kills")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        rows = {"killed in training": kills(Path(folder), options.count, options.seed)}
    return print_table(rows, ("usable", "nothing yet", "same end"))


if __name__ == "__main__":
    sys.exit(main())

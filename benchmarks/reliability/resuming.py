"""`python -m benchmarks.reliability.resuming [--every 1]`: a resumed run equals one that never stopped.

All 64 combinations of architecture, optimizer, dropout, accumulation, arithmetic and tokenizer are trained
through the command, once whole, and once stopped by SIGINT or SIGTERM at random steps and resumed. Weights,
optimizer, metrics and what the models write, greedily and drawn, must be equal. Linux and macOS.
"""

import argparse
import hashlib
import itertools
import os
import random
import signal
import sys
import tempfile
import time
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
from benchmarks.reliability.samples import MEMORY, Row, print_table

SETTINGS: dict[str, tuple[object, ...]] = {
    "--arch": ("gpt2", "nanochat"),
    "--optimizer": ("adamw", "muon"),
    "--dropout": (0.0, 0.1),
    "--accumulation": (1, 2),
    "--dtype": ("float32", "bfloat16"),
    "--tokenizer": ("char", "bpe"),
}
STEPS = 40


def written(run: Path) -> str:
    """Return the SHA-256 of what the model of a run writes, greedily and drawn."""
    log = run.parents[1] / LOG
    log.unlink(missing_ok=True)
    for how in (("--temperature", 0), ("--temperature", 1, "--seed", 5)):
        if mygpt(run.parents[1], "sample", run, "--prompt", "1", "--max-new-tokens", 20, *how, "--quiet"):
            raise AssertionError(said(run.parents[1]))
    return hashlib.sha256(log.read_bytes()).hexdigest()


def stopped(folder: Path, arguments: list[object], rng: random.Random) -> int:
    """Train, stop at random steps, resume until the end; return how often it was stopped."""
    run = folder / "checkpoints" / "halves-001"
    stops, done = 0, 0
    process = start(folder, *arguments, "--name", "halves")
    while True:
        number = rng.choice((signal.SIGINT, signal.SIGTERM))
        at = rng.randint(done + 1, STEPS)
        if wait_for(lambda at=at: step_of(run) >= at, process):  # type: ignore[misc]
            os.kill(process, number)
        code = ended(process)
        if code == 0:
            return stops
        if code != 128 + number:
            raise AssertionError(f"exit {code} after {number.name}: {said(folder)}")
        stops, done = stops + 1, step_of(run)
        if done >= STEPS:
            return stops
        process = start(folder, "train", "--resume", run, "--quiet")


def compared(folder: Path, arguments: list[object], rng: random.Random) -> None:
    """Raise AssertionError unless a run that is stopped ends like one that is not."""
    if mygpt(folder, *arguments, "--name", "whole"):
        raise AssertionError(said(folder))
    if not stopped(folder, arguments, rng):
        raise AssertionError("it was never stopped")
    whole, halves = (folder / "checkpoints" / f"{name}-001" for name in ("whole", "halves"))
    if digest(whole) != digest(halves):
        raise AssertionError("weights, optimizer or metrics differ")
    if written(whole) != written(halves):
        raise AssertionError("they write different texts")


def resuming(parent: Path, every: int, seed: int = 1) -> Row:
    """Try every n-th of the combinations."""
    rng = random.Random(seed)
    row = Row()
    for values in list(itertools.product(*SETTINGS.values()))[::every]:
        chosen = list(zip(SETTINGS, values, strict=True))
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            arguments = ["train", write_text(Path(folder)), *TINY, *itertools.chain(*chosen)]
            arguments += ["--steps", STEPS, "--eval-every", 10, "--save-every", 7, "--quiet"]
            try:
                compared(Path(folder), arguments, rng)
                outcome, why = "equal", ""
            except (AssertionError, TimeoutError) as fault:
                outcome, why = "unclean", str(fault)
        row.add(
            outcome, f"{' '.join(map(str, itertools.chain(*chosen)))}: {why}", time.perf_counter() - begin
        )
    return row


def main() -> int:
    """Compare, and print the table; the exit code is 1 when anything differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="try only every n-th combination")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        rows = {"stopped and resumed": resuming(Path(folder), options.every, options.seed)}
    return print_table(rows, ("equal",))


if __name__ == "__main__":
    sys.exit(main())

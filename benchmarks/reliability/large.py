"""`python -m benchmarks.reliability.large [--size 10GB]`: a large text, in bounded memory and done once.

The text is that of `benchmarks.text_scale`. Its tokenizing is interrupted half-way, gone on with, and the
training that follows is interrupted and resumed. No process may take more than 1.5 GB, and none may learn
the vocabulary or tokenize a block that another has done. Needs twice the size on the disk. Linux and macOS.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.reliability.commands import step_of
from benchmarks.reliability.samples import Row, print_table
from benchmarks.text_scale import make_text, number_of_bytes

MOST = 1_500_000_000  # bytes of memory
SMALL = ["--layers", "2", "--width", "64", "--context", "64", "--batch-size", "8", "--val-fraction", "0.001"]
SMALL += ["--steps", "400", "--eval-every", "400", "--save-every", "50", "--log-every", "10"]


def tokenized(folder: Path) -> float:
    """Return how many characters of the training part have their tokens."""
    for meta in (folder / "cache").glob("*/meta.json"):
        return float(json.loads(meta.read_text(encoding="utf-8")).get("train", {}).get("characters", 0))
    return 0.0


def run(folder: Path, stop: Callable[[], bool], *arguments: object) -> dict[str, Any]:
    """Run the command, interrupted once `stop` says so; return its stages, exit code, time and memory."""
    command = [sys.executable, "-m", "mygpt_cli", "train", *map(str, arguments), "--json"]
    environment = os.environ | {"MYGPT_CACHE_DIR": str(folder / "cache")}
    begin = time.perf_counter()
    with (folder / "events.jsonl").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, env=environment, cwd=folder)
    found = 0
    while not found:
        if stop():
            process.send_signal(signal.SIGINT)
            stop = never
        time.sleep(0.02)
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    events = map(json.loads, (folder / "events.jsonl").read_text(encoding="utf-8").splitlines())
    return {
        "code": process.returncode,
        "memory": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "seconds": time.perf_counter() - begin,
        "stages": [event["what"] for event in events if event["event"] == "preparing"],
    }


def never() -> bool:
    """Let it run."""
    return False


def large(folder: Path, size: int) -> dict[str, Row]:
    """Interrupt and go on, at both stages; count what was as promised."""
    text, trained = folder / "text.txt", folder / "checkpoints" / "run-001"
    make_text(text, size)
    rows: dict[str, Row] = {}
    least = float(size)

    def judge(title: str, did: dict[str, Any], code: int, again: str, before: float) -> None:
        good = did["code"] == code and did["memory"] < MOST and again not in did["stages"] and least >= before
        what = f"{did}, {least:,.0f} characters of {before:,.0f}"
        rows[title] = Row()
        rows[title].add("as promised" if good else "unclean", what, did["seconds"], did["memory"])

    def at_step() -> bool:
        nonlocal least
        least = min(least, tokenized(folder))
        return step_of(trained) >= 100

    did = run(folder, lambda: tokenized(folder) > 0.4 * size, text, *SMALL, "--name", "run")
    half = tokenized(folder)
    judge("tokenizing, interrupted", did, 130, "", 0)
    did = run(folder, at_step, text, *SMALL, "--name", "run")
    judge("gone on with, interrupted", did, 130, "learning the vocabulary", half)
    did = run(folder, never, "--resume", trained)
    judge("training, resumed", did, 0, "tokenizing the training text", half)
    return rows


def main() -> int:
    """Measure and print the table; the exit code is 1 when work was done twice or memory was not bounded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=number_of_bytes, default="10GB", help="how much text (10GB)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = large(Path(folder), options.size)
    return print_table(rows, ("as promised",))


if __name__ == "__main__":
    sys.exit(main())

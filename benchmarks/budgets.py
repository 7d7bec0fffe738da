"""`python -m benchmarks.budgets FILE`: how well `mygpt train FILE --time T` keeps its time.

The wall-clock of the whole command, from its start to its end, tokenizing included, with a fresh cache each
time: on a quiet machine, and where other work, as many processes as there are processors, starts and stops
on the way. How much slower that makes training is in the table; a budget can only be kept where it is known.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mygpt_cli.config.checks import parse_duration

CASES: dict[str, tuple[float, float] | None] = {  # shares of the budget between which there is other work
    "quiet": None,
    "from 20% on": (0.2, 9.0),
    "from 50% on": (0.5, 9.0),
    "from 80% on": (0.8, 9.0),
    "20% to 50%": (0.2, 0.5),
    "50% to 80%": (0.5, 0.8),
    "until 20%": (0.0, 0.2),
    "until 50%": (0.0, 0.5),
    "until 80%": (0.0, 0.8),
}
COLUMNS = ("case", "budget", "seconds", "miss", "planned", "steps", "corrections", "slower", "bits per byte")


@dataclass(frozen=True)
class Result:
    """A run: its wall-clock, its steps as planned and as taken, and how much slower it was under load."""

    case: str
    budget: float
    seconds: float
    planned: int
    steps: int
    corrections: int
    slower: float | None
    bits_per_byte: float

    @property
    def miss(self) -> float:
        """Share of the budget by which it was missed."""
        return self.seconds / self.budget - 1


@contextlib.contextmanager
def other_work(begin: float, end: float, processes: int) -> Iterator[None]:
    """Keep so many processes busy from one moment to another, in seconds from now."""
    over = threading.Event()

    def work() -> None:
        if over.wait(begin):
            return
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
        over.wait(end - begin)
        for process in busy:
            process.kill()
            process.wait()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def timed(path: Path, budget: float, case: str, processes: int) -> Result:
    """Run the command once."""
    shares = CASES[case]
    begin, end = (share * budget for share in shares) if shares else (0.0, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mygpt_cli", "train", str(path.absolute()), "--time", f"{budget}s"]
        started = time.perf_counter()
        with other_work(begin, end, processes) if shares else contextlib.nullcontext():
            done = subprocess.run(
                [*command, "--json", "--out", f"{folder}/runs"],
                env={**os.environ, "MYGPT_CACHE_DIR": f"{folder}/cache"},
                stdout=subprocess.PIPE,
                check=True,
                text=True,
                encoding="utf-8",
            )
            seconds = time.perf_counter() - started
    events = [json.loads(line) for line in done.stdout.splitlines()]
    # The run's own clock begins with its first step.
    finished = next(event for event in events if event["event"] == "finished")
    before = seconds - finished["seconds"]
    return Result(
        case=case,
        budget=budget,
        seconds=seconds,
        planned=next(event["steps"] for event in events if event["event"] == "started"),
        steps=finished["step"],
        corrections=sum(event["event"] == "corrected" for event in events),
        slower=_slower(events, begin - before, end - before),
        bits_per_byte=finished["best_bits_per_byte"],
    )


def _slower(events: list[dict[str, Any]], begin: float, end: float) -> float | None:
    """Return how many times as long a step took between two moments; None where that is not known."""
    speeds: dict[bool, list[float]] = {True: [], False: []}
    for event in events:
        if event["event"] == "progress":
            speeds[begin <= event["seconds"] < end].append(event["tokens_per_second"])
    return median(speeds[False]) / median(speeds[True]) if speeds[True] and speeds[False] else None


def cells(result: Result) -> tuple[str, ...]:
    """Describe a run in the order of COLUMNS."""
    return (
        result.case,
        f"{result.budget:g} s",
        f"{result.seconds:.1f}",
        f"{result.miss:+.1%}",
        f"{result.planned:,}",
        f"{result.steps:,}",
        str(result.corrections),
        f"{result.slower:.1f}x" if result.slower else "",
        f"{result.bits_per_byte:.4f}",
    )


def main() -> None:
    """Measure, print a table in Markdown line by line, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--times", default="60s", metavar="TIMES", help="separated by commas")
    parser.add_argument("--runs", type=int, default=1, help="how many of each case under load")
    parser.add_argument("--quiet-runs", type=int, default=10, help="how many of the quiet case")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        help="how many do other work; one for each processor",
    )
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|---|{'---|' * (len(COLUMNS) - 1)}", flush=True)
    results = []
    for duration in arguments.times.split(","):
        for case in arguments.cases:
            for _ in range(arguments.quiet_runs if case == "quiet" else arguments.runs):
                result = timed(arguments.file, parse_duration(duration), case, arguments.processes)
                results.append(result)
                print(f"| {' | '.join(cells(result))} |", flush=True)
    worst = max(results, key=lambda result: abs(result.miss))
    print(f"\nWorst: {worst.miss:+.1%}, {worst.case}, of {len(results)} runs.")
    if arguments.json:
        arguments.json.write_text(
            json.dumps([asdict(result) for result in results], indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()

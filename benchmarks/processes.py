"""`python -m benchmarks.processes FILE`: several processes of a thread each against one of as many threads.

Both train the same model, by turns, so that what else the machine does meets both. Of each turn the tokens
per second count, without its first tenth, and of each kind the best turn.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mygpt_cli.base.devices import cores

SHAPE = ("--layers", "4", "--width", "128", "--context", "256", "--log-every", "5", "--json")


def tokens_per_second(text: Path, flags: list[str], threads: int, steps: int) -> float:
    """Train for so many steps; return the speed, without the steps that come first."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mygpt_cli", "train", str(text.absolute()), *SHAPE, *flags]
        command += ["--steps", str(steps), "--eval-every", str(2 * steps), "--save-every", str(2 * steps)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MYGPT_CACHE_DIR": f"{folder}/cache"}
        done = subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    progress = [event for event in events if event["event"] == "progress" and event["step"] >= steps // 10]
    # The last step is timed to its end, which validation comes after.
    first, last = progress[0], progress[-1]
    tokens = next(event["tokens_per_step"] for event in events if event["event"] == "started")
    return float((last["step"] - first["step"]) * tokens / (last["seconds"] - first["seconds"]))


def main() -> None:
    """Print a line for each size of batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    count, text, steps = arguments.processes, arguments.text, arguments.steps
    for batch in (count * size for size in (4, 16)):
        flags = ["--batch-size", str(batch)]
        one, many = 0.0, 0.0
        for _ in range(arguments.turns):
            one = max(one, tokens_per_second(text, flags, count, steps))
            many = max(many, tokens_per_second(text, [*flags, "--processes", str(count)], 1, steps))
        print(
            f"{batch} sequences of 256: {one:,.0f} tokens/s in one process of {count} threads, "
            f"{many:,.0f} in {count} processes ({many / one:.2f}x)",
            flush=True,
        )


if __name__ == "__main__":
    main()

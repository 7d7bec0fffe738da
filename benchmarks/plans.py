"""`python -m benchmarks.plans`: what `mygpt train` plans for little and much text, in little and much time.

The text is made of the topics of Python's own reference, their lines in another random order each time, so
that any amount of it can be had. Each plan is measured on this machine by `mygpt train --dry-run`.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

SIZES = {"10 kB": 10_000, "100 kB": 100_000, "1 MB": 1_000_000, "20 MB": 20_000_000}
TIMES = ("1m", "10m", "60m")
COLUMNS = {
    "layers": "layers",
    "width": "width",
    "context": "context",
    "batch_size": "batch",
    "vocab_size": "vocabulary",
    "dropout": "dropout",
    "members": "models",
    "steps": "steps",
}
WIDTH = 130


def write_text(path: Path, size: int) -> None:
    """Write about this many bytes of English prose and code."""
    rng = random.Random(0)
    lines = "\n".join(topics[key] for key in sorted(topics)).splitlines(keepends=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        while size > 0:
            rng.shuffle(lines)
            # Words dropped here and there, so that no line comes back as it was.
            text = "".join(" ".join(w for w in line.split(" ") if rng.random() > 0.05) for line in lines)
            file.write(text[:size])
            size -= len(text)


def plan(path: Path, time: str, cache: str) -> dict[str, Any]:
    """Return the plan event of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "mygpt_cli", "train", str(path), "--time", time, "--dry-run", "--json"],
        env={**os.environ, "MYGPT_CACHE_DIR": cache},
        capture_output=True,
        check=True,
        text=True,
        encoding="utf-8",
    )
    events = map(json.loads, done.stdout.splitlines())
    planned: dict[str, Any] = next(event for event in events if event["event"] == "plan")
    return planned


def main() -> None:
    """Plan, print one table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--times", nargs="+", default=list(TIMES), metavar="TIME")
    parser.add_argument("--json", type=Path, help="also write the plans here")
    arguments = parser.parse_args()
    table = Table(title="What is planned", box=SIMPLE_HEAD)
    for column in ("text", "time", "parameters", *COLUMNS.values(), "passes"):
        table.add_column(column, justify="right", no_wrap=True)
    plans = []
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            path = Path(folder, f"{size}.txt")
            write_text(path, SIZES[size])
            for time in arguments.times:
                planned = plan(path, time, f"{folder}/cache")
                plans.append({"text": size, "time": time, **planned})
                config = planned["config"]
                tokens = config["steps"] * config["batch_size"] * config["accumulation"] * config["context"]
                cells = [f"{config[name]:,}" for name in COLUMNS]
                times = f"{tokens / planned['train_tokens']:.1f}"
                table.add_row(size, time, f"{planned['parameters']:,}", *cells, times)
    Console(width=WIDTH).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(plans, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

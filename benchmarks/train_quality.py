"""`python -m benchmarks.train_quality FILE…`: the default against the classic recipe, in the same time.

For each text the classic recipe trains for its 2,000 steps; then `mygpt train FILE --time T` gets as long,
from the start of the command to its last save. `--reach` also looks for the shortest time after which the
default is as good as the classic recipe at its end; `--long 600 3600` adds longer runs, `--char 600` one on
characters.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import reference

SPEEDUPS = (40, 35, 30, 25, 20, 19, 18, 17, 16, 15, 14, 12, 10, 8, 6, 5, 4, 3)  # the shortest time first


def run_default(path: Path, seconds: float | None, *flags: str, svg: Path | None = None) -> dict[str, Any]:
    """Run the command on a fresh cache; return its wall-clock and its best validation; draw its curves.

    Without `seconds` the flags say for how long.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "mygpt_cli",
            "train",
            str(path.absolute()),
            *(("--time", f"{seconds:.1f}s") if seconds else ()),
        ]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--json", "--out", f"{folder}/runs", *flags],
            env={**os.environ, "MYGPT_CACHE_DIR": f"{folder}/cache"},
            capture_output=True,
            check=True,
            text=True,
            encoding="utf-8",
        )
        wall = time.perf_counter() - started
        if svg:
            inspect = [*command[:3], "inspect", f"{path.stem}-001", "--quiet", "--svg", str(svg.absolute())]
            subprocess.run(inspect, capture_output=True, check=True, cwd=f"{folder}/runs")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    best = min((e for e in events if e["event"] == "evaluated"), key=lambda e: e["bits_per_byte"])
    plan = next(e for e in events if e["event"] == "plan")["config"]
    return {
        "seconds": wall,
        "peak_memory": max(e["memory"] for e in events if e["event"] == "progress"),
        "nats_per_character": best["nats_per_character"],
        "bits_per_byte": best["bits_per_byte"],
        "plan": {
            k: plan[k]
            for k in (
                "steps",
                "layers",
                "width",
                "context",
                "batch_size",
                "dropout",
                "bpe_dropout",
                "vocab_size",
                "members",
            )
        },
    }


def main() -> None:
    """Measure, print one table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--reach", action="store_true", help="look for the shortest time to the classic loss")
    parser.add_argument(
        "--long", type=float, nargs="+", default=[], metavar="SECONDS", help="add longer runs"
    )
    parser.add_argument("--char", type=float, metavar="SECONDS", help="add a run on characters")
    parser.add_argument("--svg", type=Path, help="draw the curves of the last default run here")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()

    table = Table(title="Validation loss in the same time")
    for column in ("text", "recipe", "wall-clock s", "nats/character", "bits/byte", "ratio", "peak MB"):
        table.add_column(column, justify="left" if column in ("text", "recipe") else "right")
    results = []

    def add(path: Path, recipe: str, result: dict[str, Any], base: float) -> None:
        results.append({"text": path.name, "recipe": recipe, **result})
        numbers = (result["seconds"], result["nats_per_character"], result["bits_per_byte"])
        cells = [f"{numbers[0]:.1f}", f"{numbers[1]:.4f}", f"{numbers[2]:.4f}", f"{numbers[2] / base:.3f}"]
        memory = f"{result['peak_memory'] / 1e6:,.0f}" if "peak_memory" in result else ""
        table.add_row(path.name, recipe, *cells, memory)
        print(json.dumps(results[-1]), file=sys.stderr, flush=True)

    for path in arguments.files:
        classic = reference.run(path)
        add(path, "classic", vars(classic), classic.bits_per_byte)
        add(path, "default", run_default(path, classic.seconds, svg=arguments.svg), classic.bits_per_byte)
        if arguments.reach:
            for speedup in SPEEDUPS:
                try:
                    result = run_default(path, classic.seconds / speedup)
                except subprocess.CalledProcessError as error:
                    if error.returncode == 2:  # the time is too short for training
                        continue
                    raise
                faster = f"default, {classic.seconds / result['seconds']:.1f}x faster"
                add(path, faster, result, classic.bits_per_byte)
                if result["bits_per_byte"] <= classic.bits_per_byte:
                    break
        for seconds in arguments.long:
            longer = run_default(path, seconds, svg=arguments.svg)
            add(path, "default, longer", longer, classic.bits_per_byte)
        if arguments.char:
            characters = run_default(path, arguments.char, "--tokenizer", "char")
            add(path, "default, characters", characters, classic.bits_per_byte)
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

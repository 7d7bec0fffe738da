"""`python -m benchmarks.sizing FILE --time SECONDS`: shapes of model against each other in the same time.

The evidence behind `training/sizing.py`: the row it chooses is marked, and should be among the best.
"""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.train_quality import run_default
from mygpt_cli.training.sizing import SHAPES


def main() -> None:
    """Measure, print one table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--time", type=float, default=100.0, metavar="SECONDS")
    parser.add_argument("--shapes", type=int, default=6, help="how many, from the smallest")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    table = Table(title=f"{arguments.file.name}, {arguments.time:.0f} s each")
    for column in ("layers", "width", "steps", "nats/character", "bits/byte", "chosen"):
        table.add_column(column, justify="right")
    chosen = run_default(arguments.file, arguments.time)
    results = []
    for layers, width in SHAPES[: arguments.shapes]:
        own = (layers, width) == (chosen["plan"]["layers"], chosen["plan"]["width"])
        flags = ("--layers", str(layers), "--width", str(width))
        result = chosen if own else run_default(arguments.file, arguments.time, *flags)
        results.append(result)
        print(json.dumps(result), file=sys.stderr, flush=True)
        losses = (f"{result['nats_per_character']:.4f}", f"{result['bits_per_byte']:.4f}")
        table.add_row(str(layers), str(width), str(result["plan"]["steps"]), *losses, "▸" if own else "")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

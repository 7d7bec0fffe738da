"""`python -m benchmarks.budgets FILE`: how well `mygpt train FILE --time T` keeps its time.

The wall-clock of the whole command, from its start to its end, tokenizing included, over several runs with a
fresh cache each.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.train_quality import run_default
from mygpt_cli.config import parse_duration


def main() -> None:
    """Measure, print one table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--times", default="20s,60s", metavar="TIMES", help="separated by commas")
    parser.add_argument("--runs", type=int, default=5, help="how many for each time")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    table = Table(title=f"Wall-clock of `mygpt train {arguments.file.name} --time T`, in seconds")
    for column in ("budget", "runs", "shortest", "mean", "longest", "worst deviation"):
        table.add_column(column, justify="right")
    results = []
    for time in arguments.times.split(","):
        budget = parse_duration(time)
        walls = sorted(run_default(arguments.file, budget)["seconds"] for _ in range(arguments.runs))
        results.append({"budget": budget, "seconds": walls})
        worst = max((wall / budget - 1 for wall in walls), key=abs)
        numbers = (walls[0], sum(walls) / len(walls), walls[-1])
        table.add_row(time, str(len(walls)), *(f"{number:.1f}" for number in numbers), f"{worst:+.1%}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

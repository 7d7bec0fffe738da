"""`python -m benchmarks.members [FILE]`: what members bring, beside a single model trained for as long.

The evidence behind `training/sizing.py`. Each model of a run takes `--steps`; a single model is trained for
as many, and for so many that it costs what a run with members costs. Without a FILE the text is the language
reference that comes with Python, of which the first `--characters` are taken.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.train_quality import run_default
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.training.stages import cost_of_all


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=600, help="of each model")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337])
    arguments = parser.parse_args()
    table = Table(title=f"{arguments.characters:,} characters, {arguments.steps} steps for each model")
    for column in ("members", "steps", "cost", "seed", "nats/character", "seconds"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        corpus = open_corpus([str(arguments.file)] if arguments.file else [])
        text = "".join(chunk.text for chunk in corpus.train.chunks())[: arguments.characters]
        path = Path(folder, "text.txt")
        path.write_text(text, encoding="utf-8")
        for seed in arguments.seeds:
            costs = {0: 1.0} | {members: cost_of_all(members) for members in arguments.members}
            single = [(0, round(arguments.steps * cost)) for cost in costs.values()]
            several = [(members, arguments.steps * (members + 1)) for members in arguments.members]
            for members, steps in (*single, *several):
                flags = ("--steps", str(steps), "--members", str(members), "--seed", str(seed))
                result = run_default(path, None, *flags)
                cost = arguments.steps * costs[members] if members else steps
                numbers = (f"{result['nats_per_character']:.4f}", f"{result['seconds']:.0f}")
                table.add_row(str(members), f"{steps:,}", f"{cost:,.0f}", str(seed), *numbers)
                print(json.dumps({"members": members, "steps": steps, **result}), file=sys.stderr, flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()

"""`python -m benchmarks.ablations FLAGS…`: sets of flags against each other on the same text and seeds.

    python -m benchmarks.ablations "--steps 700" "--steps 700 --weight-decay 0.4" --seeds 1 2

Each set of flags is one argument, as `mygpt train` takes them. Without `--file` the text is the language
reference that comes with Python, of which the first `--characters` are taken.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.train_quality import run_default
from mygpt_cli.text.corpus import open_corpus


def main() -> None:
    """Train with each set of flags and each seed, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("flags", nargs="+")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337])
    arguments, rest = parser.parse_known_args()
    if rest:
        parser.error(f"put a set of flags into quotes: {' '.join(rest)}")
    table = Table(title=f"The first {arguments.characters:,} characters")
    for column in ("flags", "nats/character", "mean", "seconds"):
        table.add_column(column, justify="left" if column == "flags" else "right")
    with tempfile.TemporaryDirectory() as folder:
        corpus = open_corpus([str(arguments.file)] if arguments.file else [])
        text = "".join(chunk.text for chunk in corpus.train.chunks())[: arguments.characters]
        path = Path(folder, "text.txt")
        path.write_text(text, encoding="utf-8")
        for flags in arguments.flags:
            results = []
            for seed in arguments.seeds:
                results.append(run_default(path, None, *shlex.split(flags), "--seed", str(seed)))
                print(json.dumps({"flags": flags, "seed": seed} | results[-1]), file=sys.stderr, flush=True)
            losses = [result["nats_per_character"] for result in results]
            each = ", ".join(f"{loss:.4f}" for loss in losses)
            seconds = statistics.mean(result["seconds"] for result in results)
            table.add_row(flags, each, f"{statistics.mean(losses):.4f}", f"{seconds:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()

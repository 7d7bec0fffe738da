"""`python -m benchmarks.sizing FILE --time SECONDS`: shapes of model against each other in the same time.

The evidence behind `training/shapes.py`: the row it chooses is marked, and should be among the best. `--pace`
measures instead how long a step of each takes, with several vocabularies, beside what the sizing expects.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.train_quality import run_default
from mygpt_cli.config.settings import Settings
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.training.preparation import Preparation
from mygpt_cli.training.shapes import SHAPES, cost
from mygpt_cli.training.sizing import MEASURED
from mygpt_cli.training.trainer import Trainer

VOCABULARIES = (1024, 2048, 4096, 8192)
ROUNDS, SECONDS = 12, 0.5  # for each shape in each round


def losses(path: Path, seconds: float, count: int) -> tuple[Table, list[dict[str, Any]]]:
    """Train each of the smallest shapes for so long."""
    table = Table(title=f"{path.name}, {seconds:.0f} s each")
    for column in ("layers", "width", "steps", "nats/character", "bits/byte", "chosen"):
        table.add_column(column, justify="right")
    chosen = run_default(path, seconds)
    results = []
    for layers, width in SHAPES[:count]:
        own = (layers, width) == (chosen["plan"]["layers"], chosen["plan"]["width"])
        flags = ("--layers", str(layers), "--width", str(width))
        result = chosen if own else run_default(path, seconds, *flags)
        results.append(result)
        print(json.dumps(result), file=sys.stderr, flush=True)
        both = (f"{result['nats_per_character']:.4f}", f"{result['bits_per_byte']:.4f}")
        table.add_row(str(layers), str(width), str(result["plan"]["steps"]), *both, "▸" if own else "")
    return table, results


def pace(path: Path, count: int) -> tuple[Table, list[dict[str, Any]]]:
    """Measure a step of each of the smallest shapes in turn, again and again; keep the medians."""
    table = Table(
        title=f"{path.name}: a step, and what is expected of it, against {MEASURED[0]}x{MEASURED[1]}"
    )
    for column in ("vocabulary", "layers", "width", "ms", "ratio", "expected"):
        table.add_column(column, justify="right")
    results, shapes = [], SHAPES[: max(count, SHAPES.index(MEASURED) + 1)]
    for vocabulary in VOCABULARIES:
        trainers = {shape: _trainer(path, vocabulary, *shape) for shape in shapes}
        times: dict[tuple[int, int], list[float]] = {shape: [] for shape in trainers}
        for _ in range(ROUNDS):
            for shape, trainer in trainers.items():
                times[shape].append(_step(trainer))
        median = {shape: statistics.median(each) for shape, each in times.items()}
        for shape, seconds in median.items():
            ratio = seconds / median[MEASURED]
            expected = cost(vocabulary, *shape) / cost(vocabulary, *MEASURED)
            results.append({"vocabulary": vocabulary, "shape": shape, "seconds": seconds, "ratio": ratio})
            cells = (f"{seconds * 1e3:.1f}", f"{ratio:.2f}", f"{expected:.2f}")
            table.add_row(f"{vocabulary:,}", *map(str, shape), *cells)
    return table, results


def _trainer(path: Path, vocabulary: int, layers: int, width: int) -> Trainer:
    settings: Settings = {"steps": 1000, "layers": layers, "width": width, "vocab_size": vocabulary}
    corpus = open_corpus([str(path)])
    preparation = Preparation(settings | {"bpe_dropout": 0.05}, corpus, lambda activity, fraction: None)
    trainer = preparation.new_trainer(preparation.plan().config(1000))
    trainer.update(0)
    return trainer


def _step(trainer: Trainer) -> float:
    """Return how long a step takes, on average over about SECONDS of them."""
    start, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < SECONDS:
        trainer.update(count)
        count += 1
    return spent / count


def main() -> None:
    """Measure, print one table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--time", type=float, default=100.0, metavar="SECONDS")
    parser.add_argument("--pace", action="store_true", help="measure a step instead")
    parser.add_argument("--shapes", type=int, default=6, help="how many, from the smallest")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    if arguments.pace:
        table, results = pace(arguments.file, arguments.shapes)
    else:
        table, results = losses(arguments.file, arguments.time, arguments.shapes)
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

"""`python -m benchmarks.train_speed FILE`: steps per second, and how near they are to matrix products alone.

First the classic recipe in float32, or products as exact: written plainly (`reference.py`) against
`mygpt train --preset classic-cpu`. Then the model that `mygpt train FILE` gives a text of a megabyte: the
matrix work done per second in a step, as a share of what torch's products alone reach, those of the optimizer
included, each timed by itself, again and again, in the same type and shape.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import reference
from mygpt_cli.backends.choice import compile_training
from mygpt_cli.base.devices import keep_freed_memory, pick_dtype
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.sources import from_preset
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.gpt import GPT
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens.dataset import Dataset, prepare
from mygpt_cli.training.sizing import plan
from mygpt_cli.training.trainer import Trainer

REPEATS = 5
SHAPE: Settings = {"layers": 4, "width": 192}  # what five minutes give a text of a megabyte on this machine


def best(action: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several times, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def new_trainer(settings: Settings, path: Path, folder: str) -> Trainer:
    """Return a trainer for these settings on this text."""
    tokenizer = settings.get("tokenizer", "bpe")
    dataset: Dataset = prepare(open_corpus([str(path)]), tokenizer=tokenizer, cache=Path(folder))
    dtype = pick_dtype(settings.get("dtype", "auto"), torch.device("cpu"))
    settings = settings | {"dtype": str(dtype).removeprefix("torch.")}
    config: TrainConfig = plan(settings, dataset, lambda config, limit: 1e-4).config(2000)
    model = GPT(config.model(dataset.tokenizer.vocab_size))
    model.initialise(torch.Generator().manual_seed(1))
    model.compute_dtype = dtype
    backend = compile_training("on", torch.device("cpu"), dtype, Path(folder)).backend(model)
    return Trainer(config, dataset, model, backend=backend)


def plain_turn(path: Path, steps: int) -> Callable[[], object]:
    """Return what takes some steps of the plain recipe."""
    text = path.read_text(encoding="utf-8")
    alphabet = {character: i for i, character in enumerate(sorted(set(text)))}
    data = torch.tensor([alphabet[character] for character in text[: int(len(text) * 0.9)]])
    model = reference.Classic(len(alphabet))
    optimizer = reference.new_optimizer(model)

    def turn() -> None:
        for step in range(steps):
            reference.train_step(model, optimizer, data, step)

    return turn


def our_turn(path: Path, steps: int) -> Callable[[], object]:
    """Return what takes some steps of the same recipe by mygpt."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        trainer = new_trainer(from_preset("classic-cpu"), path, folder)
    return lambda: [trainer.update(step) for step in range(steps)]


def share_of_products(path: Path) -> dict[str, float]:
    """Return tokens per second of the default model, and the seconds of a step and of torch's products."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        trainer = new_trainer(SHAPE, path, folder)
    for step in range(10):
        trainer.update(step)
    seconds = best(lambda: trainer.update(20), 60)
    rate = trainer.tokens_per_step / seconds
    return {"tokens_per_second": rate, "step": seconds, "products": product_seconds(trainer)}


class Worker:
    """A process of its own for a part of the measurement."""

    def __init__(self, part: str, path: Path, steps: int) -> None:
        command = ["-m", "benchmarks.train_speed", str(path), f"--steps={steps}", f"--part={part}"]
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def turn(self) -> Any:
        """Let it do its part once more, and return what it measured."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        """Let it go."""
        self._process.communicate()


def work(part: str, path: Path, steps: int) -> None:
    """Do a part each time that a line comes, and write what was measured: seconds, or the share."""
    action = {"plain": plain_turn, "ours": our_turn}[part](path, steps) if part != "share" else None
    for _ in sys.stdin:
        print(json.dumps(best(action, 1) if action else share_of_products(path)), flush=True)


def classic_speeds(path: Path, steps: int) -> tuple[float, float]:
    """Return steps per second of the plain and of our classic recipe, taking turns to share the noise."""
    workers = [Worker("plain", path, steps), Worker("ours", path, steps)]
    times = [[worker.turn() for worker in workers] for _ in range(1 + REPEATS)]
    for worker in workers:
        worker.end()
    plain, ours = (steps / min(of_one[1:]) for of_one in zip(*times, strict=True))
    return plain, ours


def product_seconds(trainer: Trainer) -> float:
    """Return torch's time for all matrix products of a step, forward and backward, each timed alone."""
    config, dtype = trainer.config, trainer.model.compute_dtype
    n, c, v = config.batch_size * config.context, config.width, trainer.model.config.vocab_size
    heads, t, d = config.batch_size * config.heads, config.context, config.width // config.heads
    shapes = [(n, columns, rows) for _, (rows, columns) in matrices(trainer.model)] + [(n, c, v)]
    total = 0.0
    for rows, fan_in, fan_out in shapes:
        x, w, y = (torch.randn(*s).to(dtype) for s in ((rows, fan_in), (fan_in, fan_out), (rows, fan_out)))
        total += best(lambda x=x, w=w: x @ w, 20)  # type: ignore[misc]
        total += best(lambda y=y, w=w: y @ w.T, 20)  # type: ignore[misc]
        total += best(lambda x=x, y=y: x.T @ y, 20)  # type: ignore[misc]
    q, scores = torch.randn(heads, t, d).to(dtype), torch.randn(heads, t, t).to(dtype)
    pair = best(lambda: q @ q.mT, 20) + best(lambda: scores @ q, 20)
    return (total + 3 * config.layers * pair) * config.accumulation + optimizer_product_seconds(trainer)


def matrices(model: GPT) -> list[tuple[str, torch.Size]]:
    """Return the matrices inside the blocks, by name, with their rows and columns."""
    return [(n, p.shape) for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2]


def optimizer_product_seconds(trainer: Trainer) -> float:
    """Return torch's time for the products that make Muon's updates orthogonal, each timed alone."""
    counts: Counter[tuple[int, int]] = Counter()
    for name, (rows, columns) in matrices(trainer.model):
        parts = 3 if "qkv" in name else 1  # query, key and value are each a matrix to it
        low, high = sorted((rows // parts, columns))
        counts[low, high] += parts
    total = 0.0
    for (low, high), count in counts.items():
        x = torch.randn(count, low, high).to(trainer.model.compute_dtype)
        gram = x @ x.mT
        total += best(lambda x=x: x @ x.mT, 20)  # type: ignore[misc]
        total += best(lambda gram=gram: gram @ gram, 20)  # type: ignore[misc]
        total += best(lambda gram=gram, x=x: gram @ x, 20)  # type: ignore[misc]
    return 5 * total


def main() -> None:
    """Measure, print two tables, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=60, help="steps of each of the turns")
    parser.add_argument("--part", choices=("plain", "ours", "share"), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    if arguments.part:
        work(arguments.part, arguments.file, arguments.steps)
        return
    plain, ours = classic_speeds(arguments.file, arguments.steps)
    worker = Worker("share", arguments.file, arguments.steps)
    default = worker.turn()
    worker.end()
    share = default["products"] / default["step"]

    console = Console()
    table = Table(title="The classic recipe in float32")
    for column in ("written", "steps/s", "ratio"):
        table.add_column(column, justify="right" if column != "written" else "left")
    table.add_row("plainly", f"{plain:.1f}", "1.00")
    table.add_row("mygpt", f"{ours:.1f}", f"{ours / plain:.2f}")
    console.print(table)
    table = Table(title="The default model, {layers} layers of {width}".format(**SHAPE))
    for column in ("tokens/s", "ms a step", "ms of torch's products", "share"):
        table.add_column(column, justify="right")
    milliseconds = (f"{default[what] * 1e3:.1f}" for what in ("step", "products"))
    table.add_row(f"{default['tokens_per_second']:,.0f}", *milliseconds, f"{share:.0%}")
    console.print(table)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"plain": plain, "ours": ours, "share": share, **default}, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()

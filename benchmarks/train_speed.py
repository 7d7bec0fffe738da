"""`python -m benchmarks.train_speed FILE`: steps per second, and how much of a step is matrix products.

First the classic recipe in the same float32 arithmetic: written plainly (`reference.py`) against
`mygpt train --preset classic-cpu`. Then the model that `mygpt train FILE` gives a text of a megabyte: the
time of a step against that of its matrix products alone, those of the optimizer included, each timed by
itself, again and again, in the same type and shape.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import reference
from mygpt_cli.config import Settings, TrainConfig
from mygpt_cli.corpus import open_corpus
from mygpt_cli.dataset import Dataset, prepare
from mygpt_cli.device import keep_freed_memory, pick_dtype
from mygpt_cli.model.gpt import GPT
from mygpt_cli.settings import from_preset
from mygpt_cli.training.compiling import compile_training
from mygpt_cli.training.sizing import plan
from mygpt_cli.training.trainer import Trainer

REPEATS = 5
SHAPE = {"layers": 4, "width": 192}  # what five minutes give a text of a megabyte on this machine


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
    config: TrainConfig = plan(settings, dataset, lambda config: 1e-4).config(2000)
    model = GPT(config.model(dataset.tokenizer.vocab_size))
    model.initialise(torch.Generator().manual_seed(1))
    model.compute_dtype = dtype
    compile_training("on", torch.device("cpu"), dtype, Path(folder)).apply(model)
    return Trainer(config, dataset, model)


def classic_speeds(path: Path, folder: str, steps: int) -> tuple[float, float]:
    """Return steps per second of the plain and of our classic recipe, taking turns to share the noise."""
    text = path.read_text(encoding="utf-8")
    alphabet = {character: i for i, character in enumerate(sorted(set(text)))}
    data = torch.tensor([alphabet[character] for character in text[: int(len(text) * 0.9)]])
    model = reference.Classic(len(alphabet))
    optimizer = reference.new_optimizer(model)
    trainer = new_trainer(from_preset("classic-cpu"), path, folder)

    def plain() -> None:
        for step in range(steps):
            reference.train_step(model, optimizer, data, step)

    def ours() -> None:
        for step in range(steps):
            trainer.update(step)

    times = [(best(plain, 1), best(ours, 1)) for _ in range(REPEATS)]
    return steps / min(t[0] for t in times), steps / min(t[1] for t in times)


def product_seconds(trainer: Trainer) -> float:
    """Return the time of all matrix products of a step, forward and backward, each timed alone."""
    config, dtype = trainer.config, trainer.model.compute_dtype
    n, c, v = config.batch_size * config.context, config.width, trainer.model.config.vocab_size
    heads, t, d = config.batch_size * config.heads, config.context, config.width // config.heads
    linear = [(n, c, 3 * c), (n, c, c), (n, c, 4 * c), (n, 4 * c, c)]
    shapes = linear * config.layers + [(n, c, v)]
    total = 0.0
    for rows, fan_in, fan_out in shapes:
        x, w, y = (torch.randn(*s).to(dtype) for s in ((rows, fan_in), (fan_in, fan_out), (rows, fan_out)))
        total += best(lambda x=x, w=w: x @ w, 20)  # type: ignore[misc]
        total += best(lambda y=y, w=w: y @ w.T, 20)  # type: ignore[misc]
        total += best(lambda x=x, y=y: x.T @ y, 20)  # type: ignore[misc]
    q, scores = torch.randn(heads, t, d).to(dtype), torch.randn(heads, t, t).to(dtype)
    pair = best(lambda: q @ q.mT, 20) + best(lambda: scores @ q, 20)
    return (total + 3 * config.layers * pair) * config.accumulation + optimizer_product_seconds(trainer)


def optimizer_product_seconds(trainer: Trainer) -> float:
    """Return the time of the products that make Muon's updates orthogonal, each timed alone."""
    layers, c = trainer.config.layers, trainer.config.width
    total = 0.0
    for count, wide in ((4 * layers, c), (2 * layers, 4 * c)):
        x = torch.randn(count, c, wide).to(trainer.model.compute_dtype)
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
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        plain, ours = classic_speeds(arguments.file, folder, arguments.steps)
        trainer = new_trainer(SHAPE, arguments.file, folder)
    for step in range(10):
        trainer.update(step)
    step_seconds = best(lambda: trainer.update(20), 60)
    products = product_seconds(trainer)
    tokens = trainer.tokens_per_step / step_seconds

    console = Console()
    table = Table(title="The classic recipe in float32")
    for column in ("written", "steps/s", "ratio"):
        table.add_column(column, justify="right" if column != "written" else "left")
    table.add_row("plainly", f"{plain:.1f}", "1.00")
    table.add_row("mygpt", f"{ours:.1f}", f"{ours / plain:.2f}")
    console.print(table)
    table = Table(title="The default model, {layers} layers of {width}".format(**SHAPE))
    for column in ("tokens/s", "ms a step", "ms of products", "share"):
        table.add_column(column, justify="right")
    milliseconds = (step_seconds * 1e3, products * 1e3)
    table.add_row(f"{tokens:,.0f}", *(f"{m:.1f}" for m in milliseconds), f"{products / step_seconds:.0%}")
    console.print(table)
    if arguments.json:
        results = {
            "plain": plain,
            "ours": ours,
            "tokens_per_second": tokens,
            "share": products / step_seconds,
        }
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

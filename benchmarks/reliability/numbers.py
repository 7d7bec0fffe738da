"""`python -m benchmarks.reliability.numbers [--count 60]`: numbers that are none never reach the disk.

NaN or infinity is put into the loss, one entry of the gradient, or one weight, at a random step of real
training, for one step or from then on. One bad step is refused and training ends well; what stays bad ends
with exit code 6. Every time both checkpoints must open, be finite, and be older than a bad weight. Linux and
macOS.
"""

import argparse
import itertools
import math
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.reliability.commands import TINY, mygpt, said, saved_step, write_text
from benchmarks.reliability.samples import MEMORY, Row, print_table
from mygpt_cli.base.errors import MygptError
from mygpt_cli.checkpoints import checkpoint
from mygpt_cli.training.trainer import Trainer

STEPS = 40
PLACES = ("loss", "gradient", "weight")


def poison(place: str, value: float, first: int, last: int, entry: int) -> Callable[[], None]:
    """Return what makes every training in its process go wrong, from a step up to another."""

    def spoil(tensor: torch.Tensor) -> None:
        tensor.view(-1)[entry % tensor.numel()] = value

    def start() -> None:
        gradients = Trainer._gradients

        def spoilt(self: Trainer, step: int, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            loss = gradients(self, step, x, y)
            if not first <= step < last:
                return loss
            parameters = list(self.model.parameters())
            victim = parameters[entry % len(parameters)]
            with torch.no_grad():
                if place == "loss":
                    return loss * value
                spoil(victim if place == "weight" or victim.grad is None else victim.grad)
            return loss

        Trainer._gradients = spoilt  # type: ignore[method-assign]

    return start


def outcome_of(folder: Path, code: int, latest: int, *, lasts: bool) -> str:
    """Judge what a training left: checkpoints of this step at the latest. Empty when all is well."""
    if code != (6 if lasts else 0):
        return f"exit {code}: {said(folder)}"
    run = folder / "checkpoints" / "run-001"
    for name in ("last", "best"):
        try:
            loaded = checkpoint.load(run / name)
            if name == "last":
                tensors = checkpoint.load_optimizer(run / name).values()
                if not all(tensor.isfinite().all() for tensor in tensors):
                    return "the optimizer is not finite"
        except MygptError as error:
            return error.message
        if loaded.folder != run / name or saved_step(run / name) > latest:
            return f"{name} is of step {saved_step(run / name)}"
    return ""


def numbers(parent: Path, count: int, seed: int = 1) -> dict[str, Row]:
    """Poison so many trainings; return the counts, by place."""
    rng = random.Random(seed)
    rows = {place: Row() for place in PLACES}
    kinds = itertools.cycle(itertools.product(PLACES, (math.nan, math.inf, -math.inf), (False, True)))
    for place, value, lasts in itertools.islice(kinds, count):
        first, entry = rng.randrange(6, STEPS - 10), rng.randrange(10**6)
        lasts = lasts or place == "weight"  # no later step can mend that
        before = poison(place, value, first, STEPS if lasts else first + 1, entry)
        with tempfile.TemporaryDirectory(dir=parent) as name:
            folder = Path(name)
            arguments = ["train", write_text(folder), *TINY, "--steps", STEPS, "--eval-every", 4]
            arguments += ["--save-every", 3, "--tokenizer", "char", "--name", "run", "--quiet"]
            latest = first if place == "weight" else STEPS
            why = outcome_of(folder, mygpt(folder, *arguments, before=before), latest, lasts=lasts)
        what = f"{value} in the {place} at step {first}{' and on' if lasts else ''}, entry {entry}"
        good = "diverged" if lasts else "refused"
        rows[place].add("unclean" if why else good, f"{what}: {why}")
    return rows


def main() -> int:
    """Poison, and print the table; the exit code is 1 when anything bad was saved."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="trainings")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        rows = numbers(Path(folder), options.count, options.seed)
    return print_table(rows, ("diverged", "refused"))


if __name__ == "__main__":
    sys.exit(main())

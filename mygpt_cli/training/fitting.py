"""How many steps fit into a time, as fast as this machine takes them now."""

import math
import time

from mygpt_cli.base.errors import UsageError
from mygpt_cli.model.windows import read_in_a_row
from mygpt_cli.training.budget import SAVE, START, Budget, typical
from mygpt_cli.training.history import History
from mygpt_cli.training.sizing import Plan
from mygpt_cli.training.trainer import Trainer

SHORTEST = 10  # steps that a budget of time must allow each model


def seconds_per_step(scratch: Trainer, limit: float) -> float:
    """Measure steps for about `limit` seconds, one at least; the scratch trainer's weights are spent.

    It has to have taken a step: the first takes longer, by far on a GPU.
    """
    start = time.perf_counter()
    times: list[float] = []
    while scratch.processes.of(0, (spent := time.perf_counter() - start) < limit or not times):
        scratch.update(1 + len(times))
        times.append(time.perf_counter() - start - spent)
    later = times[min(2, len(times) // 2) :]  # the next take longer too, a little
    seconds: float = scratch.processes.of(0, typical(later))
    return seconds


def fit_steps(plan: Plan, scratch: Trainer, end: float, history: History) -> tuple[int, Budget]:
    """Measure how many steps fit until `end`, in seconds of `time.perf_counter`; return them, and the budget.

    The scratch trainer's weights are spent on it; `history` is that of the steps taken before. Raises
    UsageError when too few fit to learn anything.
    """
    seconds = end - time.perf_counter()
    scratch.update(0)
    pace = seconds_per_step(scratch, min(1.0, seconds / 40)) * 1.01
    validation = _validation_seconds(scratch)
    budget = Budget(end, pace, validation, plan.most_steps)
    left = end - time.perf_counter() - START
    steps = int(min(plan.most_steps - history.step, left / pace))
    shortest = SHORTEST * plan.settings.get("members", 1)
    for _ in range(3):  # the fewer steps, the fewer validations
        steps = budget.steps(plan.config(history.step + max(shortest, steps)), history)
    steps = scratch.processes.of(0, steps)
    if steps < shortest:
        needed = (plan.seconds or seconds) - left + validation + SAVE + shortest * pace
        keeps_its_shape = history.step or plan.settings.get("init_from")  # having been trained before
        smaller = "" if keeps_its_shape else ", or a smaller model by --layers and --width"
        raise UsageError(
            f"the time is too short for training: {steps} steps fit into it, and {shortest} are needed",
            f"--time {math.ceil(needed * 1.2) + 1}s is enough{smaller}",
        )
    return steps, budget


def _validation_seconds(trainer: Trainer) -> float:
    """Estimate the time of a whole validation from a part of it."""
    row = read_in_a_row(trainer.model.config, trainer.config.context)
    count = trainer.processes.count
    part = trainer.dataset.val[: max(64 * trainer.config.context, count * row) + 1]  # whole rows, as most are
    trainer.validation_loss(part[: row + 1])  # the first takes longer, by far on a GPU
    start = time.perf_counter()
    trainer.validation_loss(part)
    return (time.perf_counter() - start) * len(trainer.dataset.val) / len(part)

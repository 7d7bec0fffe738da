"""A run that is given more steps than it was planned for, and what that does to its learning rate."""

from mygpt_cli.config.course import Course
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.training.history import History
from mygpt_cli.training.schedule import Rewarm, decay_start, lr_factor, warmup_steps
from mygpt_cli.training.stages import current_course


def factor_at(step: int, config: TrainConfig, history: History, course: Course | None = None) -> float:
    """Return the learning rate of a step (from 0) as a factor of its peak, by default on the run's course.

    The step is one of the stage that has begun.
    """
    first, own = history.stage_first, current_course(config, history, course)
    return lr_factor(
        step - first,
        steps=own[-1][1],
        schedule=config.schedule,
        warmup=config.warmup,
        decay_fraction=config.decay_fraction,
        final_lr=config.final_lr,
        corrections=own,
        rewarm=Rewarm(step=history.rewarm_step - first, factor=history.rewarm_factor),
    )


def extend(config: TrainConfig, history: History, planned: Course) -> str:
    """Take a run, planned otherwise, on to its new last step; say how, in words.

    A learning rate that had begun to fall rises again to that of the longer run, unless it is there.
    """
    history.evals_since_best = 0
    said = f"the run now ends at step {config.steps:,} instead of {planned[-1][1]:,}"
    first = history.stage_first
    end = first + current_course(config, history)[-1][1]
    if history.step >= end and history.stage + 1 < config.members:
        return f"{said}; the steps that are left go to the models that have not begun"
    before = factor_at(max(first, history.step - 1), config, history, planned)
    history.rewarm_step, history.rewarm_factor = history.step, before
    now = factor_at(history.step, config, history)
    if now < before - 0.05:
        return f"{said}; its learning rate falls from {before:.0%} of its peak to {now:.0%} at once"
    if before == 1.0 or history.stage_step <= config.warmup:
        history.rewarm_factor = 1.0
        return f"{said}; its learning rate had not begun to fall"
    risen = min(end - 1, history.step + warmup_steps(end - history.step))
    peak = factor_at(risen, config, history)
    if peak <= before:
        return f"{said}; its learning rate goes on falling from {before:.0%} of its peak"
    falls = ""
    if config.schedule != "constant":
        start = max(risen, first + decay_start(end - first, config.warmup, config.decay_fraction))
        last = (end - start) / (end - history.step)
        falls = f" and falls to {config.final_lr:.0%} over the last {last:.0%} of what is left"
    return (
        f"{said}; its learning rate had fallen to {before:.0%} of its peak: it rises again to {peak:.0%} "
        f"by step {risen + 1:,}{falls}"
    )

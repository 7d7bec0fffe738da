"""The learning rate over a run."""

import math
from dataclasses import dataclass

from mygpt_cli.config.course import Course


@dataclass(frozen=True, kw_only=True)
class Rewarm:
    """Where a run that had begun to lower its learning rate was given more steps: it rises again from there.

    The step is the first after the change, and the factor is that of the step before it.
    """

    step: int
    factor: float


def warmup_steps(steps: int) -> int:
    """Return over how many of its steps a run should raise the learning rate."""
    return min(steps // 20, max(10, steps // 100))


def lr_factor(
    step: int,
    *,
    steps: int,
    schedule: str,
    warmup: int,
    decay_fraction: float,
    final_lr: float,
    corrections: Course = (),
    rewarm: Rewarm | None = None,
) -> float:
    """Return the learning rate of a step (from 0) as a factor of its peak.

    It rises over `warmup` steps, stays, and falls over the last `decay_fraction` of `steps` to `final_lr`:
    `linear`ly, along a half `cosine` (Loshchilov and Hutter, 2017), or not at all (`constant`). Where the
    number of steps was corrected, it falls from where it was to the same end. From a `rewarm` on it climbs to
    that in a line (Ibrahim et al., 2024, arXiv:2403.08763).
    """
    course = corrections or ((0, steps),)
    progress = _decay_progress(step, course, warmup, decay_fraction)
    if step < warmup:
        factor = (step + 1) / (warmup + 1)
    elif schedule == "constant" or progress == 0.0:
        factor = 1.0
    else:
        falling = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
        factor = final_lr + (1.0 - final_lr) * falling
    if rewarm and step >= rewarm.step:
        planned = course[0][1]
        climbed = min(1.0, (step - rewarm.step + 1) / (warmup_steps(planned - rewarm.step) + 1))
        factor = min(factor, rewarm.factor + (1.0 - rewarm.factor) * climbed)
    return factor


def decay_start(steps: int, warmup: int, decay_fraction: float) -> int:
    """Return the first step whose learning rate may be below the peak again."""
    return max(warmup, round(steps * (1.0 - decay_fraction)))


def _decay_progress(step: int, course: Course, warmup: int, decay_fraction: float) -> float:
    """Return how much of the fall lies before a step, 0 to 1: a line, bent where the end was moved."""
    begun, start, end = 0.0, step + 1, step + 1  # the line is at `begun` until its start

    def reached(at: int) -> float:
        return begun + (1.0 - begun) * min(1.0, max(0, at - start) / max(1, end - start))

    for since, steps in course:
        if since > step:
            break
        begun, end = reached(since), steps
        start = since if begun else max(since, decay_start(steps, warmup, decay_fraction))
    return reached(step)

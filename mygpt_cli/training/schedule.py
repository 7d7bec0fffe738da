"""The learning rate over a run."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rise:
    """Where a run that had begun to lower its learning rate was given more steps: it rises again from there.

    The step is the first after the change, and the share is that of the step before it.
    """

    step: int
    share: float


def warmup_steps(steps: int) -> int:
    """Return over how many of its steps a run should raise the learning rate."""
    return min(steps // 20, max(10, steps // 100))


def lr_share(
    step: int,
    *,
    steps: int,
    schedule: str,
    warmup: int,
    decay_share: float,
    final_lr: float,
    rise: Rise | None = None,
) -> float:
    """Return the learning rate of a step (from 0) as a share of its peak.

    It rises over `warmup` steps, stays, and falls over the last `decay_share` of `steps` to `final_lr`:
    `linear`ly, along a half `cosine` (Loshchilov and Hutter, 2017), or not at all (`constant`). From a
    `rise` on it climbs to that in a line (Ibrahim et al., 2024, arXiv:2403.08763).
    """
    start = decay_start(steps, warmup, decay_share)
    if step < warmup:
        share = (step + 1) / (warmup + 1)
    elif schedule == "constant" or step < start:
        share = 1.0
    else:
        progress = min(1.0, (step - start) / max(1, steps - start))
        falling = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
        share = final_lr + (1.0 - final_lr) * falling
    if rise and step >= rise.step:
        climbed = min(1.0, (step - rise.step + 1) / (warmup_steps(steps - rise.step) + 1))
        share = min(share, rise.share + (1.0 - rise.share) * climbed)
    return share


def decay_start(steps: int, warmup: int, decay_share: float) -> int:
    """Return the first step whose learning rate may be below the peak again."""
    return max(warmup, round(steps * (1.0 - decay_share)))

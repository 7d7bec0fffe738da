"""The learning rate over a run."""

import math


def lr_share(
    step: int, *, steps: int, schedule: str, warmup: int, decay_share: float, final_lr: float
) -> float:
    """Return the learning rate of a step (from 0) as a share of its peak.

    It rises over `warmup` steps, stays, and falls over the last `decay_share` of `steps` to `final_lr`:
    `linear`ly, along a half `cosine` (Loshchilov and Hutter, 2017), or not at all (`constant`).
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    start = max(warmup, round(steps * (1.0 - decay_share)))
    if schedule == "constant" or step < start:
        return 1.0
    progress = min(1.0, (step - start) / max(1, steps - start))
    falling = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return final_lr + (1.0 - final_lr) * falling

"""What a run remembers of itself."""

import math
from dataclasses import dataclass

FORMER_NAMES = {"rise_step": "rewarm_step", "rise_share": "rewarm_factor"}  # of earlier versions


@dataclass
class History:
    """What a resumed run needs to know of its past besides weights and optimizer."""

    step: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_bits_per_byte: float | None = None
    progress_loss: float = 0.0  # sum since the last Progress event
    progress_steps: int = 0
    eval_loss: float = 0.0  # sum since the last Evaluated event
    eval_steps: int = 0
    evals_since_best: int = 0
    overfitting: bool = False  # and said so
    useless: bool = False  # worse than guessing, and said so
    norm: float = 0.0  # running mean of the gradient's norm
    refused: int = 0  # steps that were not taken
    refused_in_row: int = 0
    rewarm_step: int = 0  # where the learning rate began to rise again, for more steps than were planned
    rewarm_factor: float = 1.0  # from this factor of its peak

    def take(self, loss: float) -> None:
        """Count a step."""
        self.step += 1
        if math.isfinite(loss):
            self.progress_loss += loss
            self.progress_steps += 1
            self.eval_loss += loss
            self.eval_steps += 1

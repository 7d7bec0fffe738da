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
    evals_since_best: int = 0  # of this stage
    overfitting: bool = False  # and said so
    useless: bool = False  # worse than guessing, and said so
    stage: int = 0  # which of the run's models is being trained
    stage_first: int = 0  # the first step of that
    stage_best: float | None = None  # its lowest bits per byte so far
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

    @property
    def stage_step(self) -> int:
        """Steps that the model which is being trained has taken."""
        return self.step - self.stage_first

    def begin_stage(self) -> None:
        """Begin with another model."""
        self.stage += 1
        self.stage_first = self.step
        self.stage_best = None
        self.evals_since_best = 0
        self.norm = 0.0

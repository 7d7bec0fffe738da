"""Whether a step may be taken, whether training still makes the model better, and what to say when not."""

import math
from collections.abc import Sequence
from typing import Literal, Protocol

from mygpt_cli.base.errors import DivergedError
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.training.events import Evaluated
from mygpt_cli.training.history import History

HOPELESS = 1.05  # times the best bits per byte
ROSE = 1.01  # times the lowest loss on new text: a last one above has risen
FALLING = 0.02  # fraction of the loss on new text that the last fifth of a run takes off while it still falls
FRESH_PASSES = 4  # over a text, which teach nearly as much as new text would (Muennighoff et al. 2023)
APART = 0.25  # by which fraction the loss on new text is above that on the training text when it is memorised
USELESS = 1.05  # times the loss of guessing; a model that has only begun may be just above it

SETTLED = 100  # steps until the gradient's norm is known well enough to call another one a spike
SPIKE = 20.0  # times that norm
REFUSALS = 10  # steps in a row that must be refused before training is called diverged


def is_acceptable(history: History, config: TrainConfig, loss: float, norm: float) -> bool:
    """Whether a step may be taken; DivergedError when too many in a row may not."""
    finite = math.isfinite(loss) and math.isfinite(norm)
    spike = history.stage_step > SETTLED and norm > SPIKE * max(history.norm, config.clip or 1.0)
    if finite and not spike:
        history.refused_in_row = 0
        history.norm += (norm - history.norm) / min(history.stage_step + 1, 100)
        return True
    history.refused += 1
    history.refused_in_row += 1
    if history.refused_in_row >= REFUSALS:
        raise DivergedError(
            f"training diverged: {REFUSALS} steps in a row, up to step {history.step + 1}, had a loss of "
            f"{loss:.4g} and a gradient of norm {norm:.4g}",
            f"the checkpoints saved before are good; train again with {lower_rates(config)}",
        )
    return False


def lower_rates(config: TrainConfig) -> str:
    """Name the flags of the learning rates that there are, to be lowered."""
    return "a lower --lr and --muon-lr" if config.optimizer == "muon" else "a lower --lr"


def is_hopeless(history: History, config: TrainConfig, evaluated: Evaluated) -> bool:
    """Whether validation has become so much worse that the falling learning rate cannot mend it.

    A member that learns its text by heart is no reason to end while others are to come.
    """
    if history.stage + 1 < config.members:
        return False
    lost = evaluated.bits_per_byte > HOPELESS * (history.stage_best or math.inf)
    return bool(config.patience) and history.evals_since_best >= config.patience and lost


def overfitting(history: History, evaluated: Evaluated) -> str | None:
    """Say once, in plain words, that the model has begun to learn the text by heart."""
    gap = evaluated.val_loss - evaluated.train_loss
    told = history.overfitting or history.useless
    if told or history.evals_since_best < 2 or gap < 0.1 * evaluated.train_loss:
        return None
    history.overfitting = True
    return (
        "the model has begun to memorise the text: its loss still falls on the training text "
        f"({evaluated.train_loss:.2f}), but no longer on the validation text ({evaluated.val_loss:.2f}). The "
        "best checkpoint is kept. More text helps, or a smaller model, or more --dropout"
    )


def useless(history: History, config: TrainConfig, evaluated: Evaluated, vocab_size: int) -> str | None:
    """Say once, in plain words, that after its warm-up the model knows less than nothing."""
    guessing = math.log(vocab_size)
    lower = min(evaluated.train_loss, evaluated.val_loss)
    if history.useless or history.stage_step <= config.warmup or lower < USELESS * guessing:
        return None
    history.useless = True
    return (
        f"the model does worse than random guessing: its loss is {evaluated.val_loss:.2f}, that of guessing "
        f"{guessing:.2f}. The learning rate is too high: start again with {lower_rates(config)}"
    )


class Measured(Protocol):
    """A validation, as an event or as a run recorded it."""

    @property
    def step(self) -> int:
        """After how many steps."""

    @property
    def train_loss(self) -> float | None:
        """Mean over the steps before, in nats per token."""

    @property
    def val_loss(self) -> float:
        """Over the validation text, in nats per token."""

    @property
    def stage(self) -> int:
        """Which of the run's models it was."""


Verdict = Literal["good", "still improving", "memorising", "not learning"]


def verdict(validations: Sequence[Measured], passes: float, reason: str, vocab_size: int) -> Verdict | None:
    """Judge a run that has ended after so many passes over its text; None where too little is known.

    Of several models the last is judged, which has seen its part of the passes; what it adds to those before
    it counts as its improvement where it was not measured on the way. `reason` is that of `Finished`. A run
    that a signal has stopped is not judged. A loss that was measured once is not known to have levelled off.
    """
    if not validations or reason.startswith("SIG"):
        return None
    last = validations[-1]
    own = [each for each in validations if each.stage == last.stage]
    lowest = min(each.val_loss for each in own)
    before = max((each.step for each in validations if each.stage < last.stage), default=0)
    if lowest > USELESS * math.log(vocab_size):
        return "not learning"
    if reason != "done" or last.val_loss > ROSE * lowest:
        return "memorising"
    recent = last.step - 0.2 * (last.step - before)
    earlier = [each.val_loss for each in validations if before <= each.step <= recent]
    falls = bool(earlier) and last.val_loss < (1 - FALLING) * earlier[-1]
    if falls or passes < FRESH_PASSES * (last.stage + 1):
        return "still improving"
    apart = last.train_loss is not None and last.val_loss > (1 + APART) * last.train_loss
    if apart:
        return "memorising"
    return "good" if earlier else "still improving"

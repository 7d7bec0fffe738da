"""Whether training still makes the model better, and what to tell the user when it does not."""

import math

from mygpt_cli.config.train import TrainConfig
from mygpt_cli.training.events import Evaluated
from mygpt_cli.training.history import History

HOPELESS = 1.05  # times the best bits per byte
USELESS = 1.05  # times the loss of guessing; a model that has only begun may be just above it


def is_hopeless(history: History, config: TrainConfig, evaluated: Evaluated) -> bool:
    """Whether validation has become so much worse that the falling learning rate cannot mend it."""
    lost = evaluated.bits_per_byte > HOPELESS * (history.best_bits_per_byte or math.inf)
    return bool(config.patience) and history.evals_since_best >= config.patience and lost


def overfitting(history: History, evaluated: Evaluated) -> str | None:
    """Say once, in plain words, that the model has begun to learn the text by heart."""
    gap = evaluated.val_loss - evaluated.train_loss
    told = history.overfitting or history.useless
    if told or history.evals_since_best < 2 or gap < 0.1 * evaluated.train_loss:
        return None
    history.overfitting = True
    return (
        "the model begins to learn the text by heart: its loss no longer falls on what it has not seen "
        f"({evaluated.val_loss:.2f}), only on what it trains on ({evaluated.train_loss:.2f}). The best "
        "checkpoint is kept; more text helps, or a smaller model, or more --dropout"
    )


def useless(history: History, config: TrainConfig, evaluated: Evaluated, vocab_size: int) -> str | None:
    """Say once, in plain words, that after its warm-up the model knows less than nothing."""
    guessing = math.log(vocab_size)
    lower = min(evaluated.train_loss, evaluated.val_loss)
    if history.useless or history.step <= config.warmup or lower < USELESS * guessing:
        return None
    history.useless = True
    return (
        f"the model does worse than guessing: its loss is {evaluated.val_loss:.2f}, where taking every "
        f"token for equally likely gives {guessing:.2f}. Its learning rate is too high: begin again with "
        f"a lower --lr{' and --muon-lr' if config.optimizer == 'muon' else ''}"
    )

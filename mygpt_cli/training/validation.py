"""From a sum of nats over the validation text to what is told of it, and which model is the best so far."""

import math

from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.events import Evaluated
from mygpt_cli.training.history import History


def evaluate(history: History, dataset: Dataset, nats: float) -> Evaluated:
    """Take down what all predictions of the validation text cost together, in nats, and judge them.

    The first token of that text has no predecessor: it is not predicted, and not counted. One that the
    tokenizer puts in front is no text.
    """
    first = b"" if dataset.tokenizer.prefix else dataset.tokenizer.token_bytes(int(dataset.val[0]))
    bits_per_byte = nats / math.log(2) / max(1, dataset.val_bytes - len(first))
    improved = math.isfinite(nats) and bits_per_byte < (history.stage_best or math.inf)
    history.evals_since_best = 0 if improved else history.evals_since_best + 1
    history.stage_best = bits_per_byte if improved else history.stage_best
    best = improved and bits_per_byte < (history.best_bits_per_byte or math.inf)
    if best:
        history.best_step, history.best_bits_per_byte = history.step, bits_per_byte
    evaluated = Evaluated(
        step=history.step,
        train_loss=history.eval_loss / max(1, history.eval_steps),
        val_loss=nats / (len(dataset.val) - 1),
        bits_per_byte=bits_per_byte,
        nats_per_character=nats / max(1, dataset.val_characters - len(first.decode(errors="ignore"))),
        best=best,
        seconds=history.seconds,
    )
    history.eval_loss, history.eval_steps = 0.0, 0
    return evaluated

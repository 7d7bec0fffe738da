"""What is told of a validation, worked out by hand, and which model is the best."""

import math
from dataclasses import replace

import pytest

from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.history import History
from mygpt_cli.training.validation import evaluate


def test_losses_are_those_of_the_predicted_tokens(tiny_dataset: Dataset) -> None:
    history = History(step=7, seconds=1.5, eval_loss=12.0, eval_steps=4)
    dataset = replace(tiny_dataset, val_bytes=101, val_characters=101)
    evaluated = evaluate(history, dataset, 200.0)
    first = len(dataset.tokenizer.token_bytes(int(dataset.val[0])))
    assert evaluated.bits_per_byte == pytest.approx(200.0 / math.log(2) / (101 - first))
    assert evaluated.nats_per_character == pytest.approx(200.0 / (101 - first))
    assert evaluated.val_loss == pytest.approx(200.0 / (len(dataset.val) - 1))
    assert (evaluated.train_loss, evaluated.step, evaluated.best) == (3.0, 7, True)
    assert (history.eval_loss, history.eval_steps) == (0.0, 0)


def test_the_best_is_that_of_the_run_and_patience_that_of_the_stage(tiny_dataset: Dataset) -> None:
    history, best, waited = History(), [], []
    for step, nats in enumerate((300.0, 200.0, 250.0, math.nan), 1):
        history.step = step
        best.append(evaluate(history, tiny_dataset, nats).best)
        waited.append(history.evals_since_best)
    assert (best, waited) == ([True, True, False, False], [0, 0, 1, 2])
    history.begin_stage()
    for step, nats in enumerate((280.0, 220.0, 230.0, 190.0), 5):
        history.step = step
        best.append(evaluate(history, tiny_dataset, nats).best)
        waited.append(history.evals_since_best)
    assert (best[4:], waited[4:]) == ([False, False, False, True], [0, 0, 1, 0])
    assert history.best_step == 8

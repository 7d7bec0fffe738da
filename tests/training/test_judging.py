"""Which steps may be taken, and the verdict on a run that has ended."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.errors import DivergedError
from mygpt_cli.training.history import History
from mygpt_cli.training.judging import FRESH_PASSES, REFUSALS, is_acceptable, verdict
from tests.conftest import tiny_config


@dataclass
class Validation:
    step: int
    train_loss: float | None
    val_loss: float
    stage: int = 0


def run_of(*losses: float, train: float | None = None) -> list[Validation]:
    """Return validations at equal distances; the training loss is as good as that on new text."""
    return [
        Validation(10 * number, loss if train is None else train, loss)
        for number, loss in enumerate(losses, 1)
    ]


@pytest.mark.parametrize(
    ("validations", "passes", "reason", "expected"),
    [
        ([], 10.0, "done", None),
        (run_of(2.0, 1.9), 10.0, "SIGINT", None),
        (run_of(3.0, 2.5, 2.4, 2.2, 2.1), 10.0, "done", "still improving"),
        (run_of(3.0, 2.5, 2.2, 2.01, 2.0), 10.0, "done", "good"),
        (run_of(3.0, 2.5, 2.2, 2.01, 2.0), 1.5, "done", "still improving"),  # most of the text is new to it
        (run_of(2.0), 2.0, "done", "still improving"),
        (run_of(2.0), 10.0, "done", "still improving"),
        (run_of(2.0, train=1.0), 10.0, "done", "memorising"),
        (run_of(3.0, 2.5, 2.2, 2.01, 2.0, train=1.0), 10.0, "done", "memorising"),
        (run_of(3.0, 2.0, 2.1), 10.0, "done", "memorising"),
        (run_of(3.0, 2.0, 2.01), 10.0, "no longer improves", "memorising"),
        ([Validation(10, None, 2.0)], 10.0, "done", "still improving"),
        ([Validation(10, None, 2.0), Validation(20, None, 2.0)], 10.0, "done", "good"),
        # The last of several models, measured once: what counts is how much it adds to those before it.
        ([Validation(10, None, 2.0), Validation(20, None, 1.9, stage=1)], 10.0, "done", "still improving"),
        ([Validation(10, None, 2.0), Validation(20, None, 1.99, stage=1)], 10.0, "done", "good"),
        ([Validation(10, None, 2.0), Validation(20, None, 1.99, stage=1)], 7.0, "done", "still improving"),
        ([Validation(20, None, 1.99, stage=1)], 10.0, "done", "still improving"),
    ],
)
def test_verdicts(validations: list[Validation], passes: float, reason: str, expected: str | None) -> None:
    assert verdict(validations, passes, reason, 1000) == expected
    if expected:
        assert verdict(validations, passes, reason, 5) == "not learning"  # guessing gives 1.61


@given(st.lists(st.floats(0.01, 12.0), min_size=1, max_size=12), st.floats(0, 1000), st.floats(0.01, 12.0))
def test_a_rise_is_never_called_good(losses: list[float], passes: float, train: float) -> None:
    judged = verdict(run_of(*losses, train=train), passes, "done", 10**6)
    assert judged in ("good", "still improving", "memorising")
    if losses[-1] > 1.05 * min(losses):
        assert judged == "memorising"


def test_what_a_spike_is_depends_on_the_gradients_before() -> None:
    """Their mean over the steps so far, and over about a hundred once there are more."""
    config, history = tiny_config(clip=0.0), History()
    norms = [3.0, 5.0, 10.0]
    for step, norm in enumerate(norms):
        history.step = step
        assert is_acceptable(history, config, 1.0, norm)
    assert history.norm == pytest.approx(sum(norms) / 3)
    history.step = 500
    assert is_acceptable(history, config, 1.0, 106.0)
    assert history.norm == pytest.approx(7.0)
    assert is_acceptable(history, config, 1.0, 20 * 7.0)
    assert history.norm == pytest.approx(7.0 + 133.0 / 100)
    assert not is_acceptable(history, config, 1.0, 20 * 8.34)
    assert history.norm == pytest.approx(8.33)  # what was refused is no measure
    assert (history.refused, history.refused_in_row) == (1, 1)


@pytest.mark.parametrize(
    ("optimizer", "lower"), [("adamw", "a lower --lr"), ("muon", "a lower --lr and --muon-lr")]
)
def test_only_learning_rates_that_there_are_are_to_be_lowered(optimizer: str, lower: str) -> None:
    config, history = tiny_config(optimizer=optimizer), History()
    with pytest.raises(DivergedError) as fault:
        for _ in range(REFUSALS):
            is_acceptable(history, config, math.nan, 1.0)
    assert fault.value.hint.endswith(f"train again with {lower}")


def test_of_several_models_the_last_is_judged() -> None:
    """Over its own steps, and by its part of the passes."""
    losses = (4.0, 2.2, 2.1, 4.0, 2.01, 2.0, 2.0, 2.0)
    validations = [replace(each, stage=int(each.step > 30)) for each in run_of(*losses)]
    assert verdict(validations, 20.0, "done", 1000) == "good"
    assert verdict(validations, 2 * FRESH_PASSES - 1, "done", 1000) == "still improving"
    better = [replace(each, val_loss=each.val_loss - 1.0 * (each.stage == 0)) for each in validations]
    assert verdict(better, 20.0, "done", 1000) == "good"  # a member was better: that is no memorising
    validations[-1] = replace(validations[-1], val_loss=1.9)
    assert verdict(validations, 20.0, "done", 1000) == "still improving"

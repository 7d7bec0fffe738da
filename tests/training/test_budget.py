"""A budget of time: what fits into it, and how it is kept on a machine whose speed changes."""

import math
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.budget import SAVE, START, Budget
from mygpt_cli.training.events import Corrected, Evaluated, Event, Finished
from mygpt_cli.training.history import History
from mygpt_cli.training.trainer import Trainer
from tests.conftest import tiny_config
from tests.helpers.machine import Machine
from tests.helpers.trainers import new_trainer, seconds_of


@given(
    every=st.fixed_dictionaries(
        {
            "eval_every": st.integers(1, 80),
            "save_every": st.integers(1, 80),
            "keep_every": st.integers(0, 80),
        }
    ),
    planned=st.integers(1, 90),
    done=st.integers(0, 90),
    seconds=st.floats(0, 60),
)
def test_as_many_steps_are_planned_as_fit(
    every: dict[str, int], planned: int, done: int, seconds: float
) -> None:
    pace, validation = 0.25, 0.5
    config = replace(tiny_config(steps=planned), **every)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(time, "perf_counter", lambda: 7.0)
        steps = Budget(7.0 + START + seconds, pace, validation).steps(config, History(step=done))
    interval = config.validation_interval

    def needed(count: int) -> float:
        longer = replace(config, steps=done + count, corrections=())
        # The plan is what it was, also where more is done than was planned.
        once = {"eval_every": longer.steps} if interval > planned else {}
        return seconds_of(replace(longer, **once), done, pace, validation)  # type: ignore[arg-type]

    if interval <= planned and interval >= done + steps:
        return  # the slow way takes the plan from the number of steps
    assert steps == 0 or needed(steps) <= seconds + 1e-9
    if not (interval <= planned and interval >= done + steps + 1):
        assert needed(steps + 1) > seconds - 1e-9


def test_without_an_end_nothing_is_corrected() -> None:
    budget, config = Budget(), tiny_config(steps=100)
    budget.begin()
    for step in range(1, 101):
        budget.stepped()
        assert budget.correction(config, History(step=step)) is None


def timed(
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    machine: Machine,
    *,
    budget: float,
    step: float,
    validation: float,
) -> tuple[Trainer, list[Event]]:
    """Run through a budget on a machine that only pretends to train."""
    machine.work(0.03 * budget)  # preparing
    timer = Budget(budget, step, validation)
    steps = timer.steps(tiny_config(steps=10**6, eval_every=10**5, save_every=10**5), History())
    config = tiny_config(
        steps=steps,
        warmup=steps // 20,
        decay_fraction=0.6,
        eval_every=-(-steps // 8),
        save_every=-(-steps // 10),
        log_every=max(1, steps // 50),
        patience=0,
    )
    trainer = new_trainer(config, dataset)
    trainer.budget = timer
    monkeypatch.setattr(trainer, "update", lambda number: (1.0, 1.0))
    monkeypatch.setattr(
        trainer,
        "_evaluate",
        lambda: Evaluated(
            step=trainer.history.step,
            train_loss=1.0,
            val_loss=1.0,
            bits_per_byte=1.0,
            nats_per_character=1.0,
            best=False,
            seconds=0.0,
        ),
    )
    return trainer, list(machine.drive(trainer, monkeypatch, step=step, validation=validation).run())


@pytest.mark.parametrize(("budget", "step"), [(20.0, 0.05), (100.0, 0.125), (1000.0, 1.0), (30.0, 0.4)])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    factor=st.floats(0.5, 2.0) | st.sampled_from([0.5, 2.0]),
    at=st.floats(0.0, 0.9),
    until=st.floats(0.0, 0.9) | st.just(1.0),
    seed=st.integers(0, 1000),
)
def test_a_budget_is_kept_when_the_speed_changes(
    tiny_dataset: Dataset, budget: float, step: float, factor: float, at: float, until: float, seed: int
) -> None:
    """Up to twice as fast or slow from any moment of the first nine tenths on, for a while or to the end."""
    with pytest.MonkeyPatch.context() as monkeypatch:

        def slowness(now: float) -> float:
            return factor if at * budget <= now < until * budget or (now >= budget and until == 1.0) else 1.0

        machine = Machine(monkeypatch, slowness, noise=0.05, hiccups=0.002, seed=seed)
        trainer, events = timed(
            tiny_dataset, monkeypatch, machine, budget=budget, step=step, validation=0.005 * budget
        )
        assert abs(machine.now + START - budget) <= 0.05 * budget
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.step == trainer.config.steps
    corrected = [(e.step, e.steps) for e in events if isinstance(e, Corrected)]
    assert trainer.config.corrections == (((0, trainer.config.course[0][1]), *corrected) if corrected else ())


def test_a_machine_that_is_far_slower_than_it_was_measured_is_noticed(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step on, thirty times: a twentieth of the steps would take longer than all may."""
    machine = Machine(monkeypatch, lambda now: 30.0 if now > 3.0 else 1.0)
    timed(tiny_dataset, monkeypatch, machine, budget=100.0, step=0.05, validation=0.05)
    assert abs(machine.now + START - 100.0) <= 5.0


def test_a_steady_machine_needs_no_correction(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, lambda now: 1.0, hiccups=0.002)
    _, events = timed(tiny_dataset, monkeypatch, machine, budget=100.0, step=0.1, validation=0.5)
    assert len([e for e in events if isinstance(e, Corrected)]) <= 2


def test_each_model_keeps_a_step_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, lambda now: 1.0)
    config = tiny_config(steps=1000, members=6)
    budget = Budget(100.0, 1.0)
    budget.begin()
    machine.work(500.0)  # as a process that was stopped and goes on
    budget.stepped()
    assert budget.correction(config, History(step=1)) == 6


def test_samples_are_no_steps_and_those_to_come_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds each, of which three are still to come."""
    machine = Machine(monkeypatch, lambda now: 1.0)
    config = tiny_config(steps=1000, eval_every=1000, save_every=1000)
    budget = Budget(100.0, 1.0)
    budget.begin()
    for _ in range(10):
        machine.work(1.0)
        budget.stepped()
    machine.work(2.0)
    budget.sampled(3 * 2.0)
    assert budget.steps(config, History(step=10)) == int(100.0 - START - 10.0 - 2.0 - 3 * 2.0 - SAVE)


def test_what_validations_and_saves_take_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both take ten times as long as was thought: after a few, that is what is planned with."""
    machine = Machine(monkeypatch, lambda now: 1.0)
    config = tiny_config(steps=1000, eval_every=50, save_every=50)
    budget = Budget(100.0, 0.05, 0.05)
    before = budget.steps(config, History())
    budget.begin()
    for _ in range(8):
        for _ in range(50):
            machine.work(0.05)
            budget.stepped()
        machine.work(0.5)
        budget.validated()
        machine.work(10 * SAVE)
        budget.saved(kept=False)
    left = 100.0 - START - machine.now
    expected = left / (0.05 + (0.5 + 10 * SAVE) / 50)
    assert math.isclose(budget.steps(config, History(step=400)), expected, rel_tol=0.03)
    assert before > 1.2 * 100.0 / (0.05 + (0.5 + 10 * SAVE) / 50)

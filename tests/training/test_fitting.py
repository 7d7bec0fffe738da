"""How many steps fit into a time."""

import re
import time
from dataclasses import replace

import pytest

from mygpt_cli.base.errors import UsageError
from mygpt_cli.config.settings import Settings
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training import fitting
from mygpt_cli.training.budget import START, Budget
from mygpt_cli.training.fitting import fit_steps, seconds_per_step
from mygpt_cli.training.history import History
from mygpt_cli.training.sizing import plan
from mygpt_cli.training.trainer import Trainer
from tests.conftest import tiny_config
from tests.helpers.machine import Machine
from tests.helpers.speeds import slow
from tests.helpers.trainers import new_trainer, seconds_of


def test_validations_that_were_asked_for_are_part_of_the_time(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "seconds_per_step", lambda scratch, limit: 0.01)
    monkeypatch.setattr(time, "perf_counter", lambda: 5.0)
    monkeypatch.setattr(fitting, "_validation_seconds", lambda scratch: 0.9)
    shape: Settings = {"layers": 1, "heads": 1, "width": 8}
    for every, keep in ((1, 0), (7, 0), (100, 10), (4000, 1)):
        given: Settings = {**shape, "time": "100s", "eval_every": every, "keep_every": keep, "members": 1}
        chosen = plan(given, tiny_dataset, slow)
        end = time.perf_counter() + 100.0
        steps, _ = fit_steps(chosen, new_trainer(chosen.config(100), tiny_dataset), end, History())
        config = chosen.config(steps)
        assert seconds_of(config, 0, 0.01 * 1.01, 0.9) + START <= 100.0
        assert seconds_of(chosen.config(steps + 1), 0, 0.01 * 1.01, 0.9) + START > 100.0
        twice = Budget(end, 0.005, 0.9)
        assert twice.steps(config, History()) >= steps


@pytest.mark.parametrize(("step", "limit", "most"), [(0.01, 0.25, 0.3), (0.6, 0.25, 1.3), (1.6, -1.0, 3.3)])
def test_measuring_takes_no_longer_than_it_may(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, step: float, limit: float, most: float
) -> None:
    """Nor than two steps: where they are slow, a short budget would be spent before training began."""
    machine = Machine(monkeypatch, lambda now: 1.0)
    trainer = machine.drive(new_trainer(tiny_config(), tiny_dataset), monkeypatch, step=step, validation=0.0)
    trainer.update(0)
    assert seconds_per_step(trainer, limit) == pytest.approx(step)
    assert machine.now <= most


def test_the_first_steps_do_not_count_and_a_hiccup_counts_a_little(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(tiny_config(), tiny_dataset)
    times = iter([3.0, 0.2, 0.2, *[0.1] * 4, 5.0, *[0.1] * 100])
    machine = Machine(monkeypatch, lambda now: 1.0)
    monkeypatch.setattr(trainer, "update", lambda number: machine.work(next(times)))
    trainer.update(0)  # as before every measuring
    measured = seconds_per_step(trainer, 6.35)
    assert measured == pytest.approx((10 * 0.1 + 0.3) / 11)


def test_a_budget_too_short_is_refused(tiny_dataset: Dataset) -> None:
    settings: Settings = {
        "layers": 1,
        "heads": 1,
        "width": 8,
        "context": 8,
        "batch_size": 1,
        "dtype": "float32",
    }
    chosen = plan(settings, tiny_dataset, slow)
    scratch: Trainer = new_trainer(chosen.config(100), tiny_dataset)
    with pytest.raises(UsageError, match="too short"):
        fit_steps(chosen, scratch, time.perf_counter() + 0.3, History())
    with pytest.raises(UsageError) as fault:  # most of the time went by before
        fit_steps(replace(chosen, seconds=20.0), scratch, time.perf_counter() + 0.3, History())
    enough = re.search(r"--time (\d+)s is enough", fault.value.hint)
    assert enough
    assert int(enough[1]) > 20
    assert fault.value.hint.endswith("or a smaller model by --layers and --width")
    fine_tuning = plan({**settings, "init_from": "a-001"}, tiny_dataset, slow)
    for its_plan, history in ((chosen, History(step=50)), (fine_tuning, History())):
        with pytest.raises(UsageError) as fault:  # whose model has its shape already
            fit_steps(its_plan, scratch, time.perf_counter() + 0.3, history)
        assert fault.value.hint.endswith("s is enough")
    steps, _ = fit_steps(chosen, scratch, time.perf_counter() + 30.0, History())
    assert steps > 100


def test_a_run_takes_no_more_steps_than_its_text_can_use(tiny_dataset: Dataset) -> None:
    settings: Settings = {"layers": 1, "heads": 1, "width": 8, "context": 8, "batch_size": 1, "time": "1h"}
    chosen = plan(settings, tiny_dataset, slow)
    scratch = new_trainer(chosen.config(100), tiny_dataset)
    for history in (History(), History(step=20)):
        limited = replace(chosen, most_steps=150)
        steps, budget = fit_steps(limited, scratch, time.perf_counter() + 3600, history)
        assert steps == 150 - history.step
        assert budget.steps(limited.config(150), history) == steps

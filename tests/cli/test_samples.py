"""Samples while a model trains: when they come, what they take, and that they change nothing."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mygpt_cli.base.errors import MygptError
from mygpt_cli.checkpoints import runs
from mygpt_cli.checkpoints.metrics import read_metrics
from mygpt_cli.checkpoints.runs import Run
from mygpt_cli.cli import samples
from mygpt_cli.cli.app import run
from mygpt_cli.cli.samples import (
    ENDING,
    FIRST,
    FRACTION,
    LONGEST,
    LONGEST_ENDING,
    UNKNOWN,
    Samples,
)
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.budget import START, Budget
from mygpt_cli.training.events import Evaluated, Sampled
from mygpt_cli.training.history import History
from mygpt_cli.training.trainer import Trainer
from tests.conftest import tiny_config
from tests.helpers.machine import Machine
from tests.helpers.trainers import new_trainer


def pretending(
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    machine: Machine,
    budget: Budget,
    step: float,
    **settings: Any,
) -> Trainer:
    """Return a trainer whose steps take so many seconds, and do nothing."""
    trainer = new_trainer(tiny_config(**settings), dataset)
    trainer.budget = budget
    monkeypatch.setattr(trainer, "update", lambda number: (1.0, 1.0))
    losses: Any = {"train_loss": 1.0, "val_loss": 1.0, "bits_per_byte": 1.0, "nats_per_character": 1.0}
    evaluated = Evaluated(step=1, best=False, seconds=0.0, **losses)
    monkeypatch.setattr(trainer, "_evaluate", lambda: replace(evaluated, step=trainer.history.step))
    return machine.drive(trainer, monkeypatch, step=step, validation=0.0)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.floats(12, 2000),
    wanted=st.floats(0.001, 30),
    pace=st.floats(0.002, 0.01),
    token=st.just(0.0) | st.floats(0, UNKNOWN),
)
@example(seconds=512.0, wanted=1.0, pace=2**-8, token=2.0)  # one can be afforded: none is reserved for more
def test_samples_double_their_distance_and_keep_the_budget(
    tiny_dataset: Dataset, seconds: float, wanted: float, pace: float, token: float
) -> None:
    """However long a sample would like to take, or the first token, in steps, needs; what they took is gone
    from the steps."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        machine = Machine(monkeypatch, lambda now: 1.0)
        step = pace * seconds
        budget = Budget(seconds, step)
        steps = budget.steps(tiny_config(steps=10**6, eval_every=10**5, save_every=10**5), History())
        often = {"eval_every": steps, "save_every": steps, "log_every": 7, "warmup": 1, "patience": 0}
        trainer = pretending(tiny_dataset, monkeypatch, machine, budget, step, steps=steps, **often)
        found, taken = Samples(trainer), []

        def write(tokens: int, most: float) -> Sampled:
            begun = Sampled(step=trainer.history.step, seconds=trainer.history.seconds, text="a")
            found._reading = token * step
            taken.append(max(found._reading, min(wanted, max(0.0, most))))
            machine.work(taken[-1])
            return begun

        monkeypatch.setattr(found, "_sampled", write)
        events = [event for event in trainer.run(between=found.on_time) if isinstance(event, Sampled)]
        assert abs(machine.now + START - seconds) <= 0.03 * seconds
    assert sum(taken) <= FRACTION * seconds + 1e-6
    assert all(one <= max(LONGEST, token * step) for one in taken)
    due = list(itertools.takewhile(lambda time: time < seconds, (FIRST * 2**k for k in range(20))))
    times = [event.seconds for event in events]
    # Each comes after the step within which it is due; a long step may have several, and the last step none.
    late = step + max(taken, default=0.0) + 1e-6  # the one before may have taken a part of that step
    assert all(any(time <= at <= time + late for time in due) for at in times)
    assert len(times) <= len(due)
    affordable = token == 0.0 and UNKNOWN * pace < 0.95 * FRACTION
    if late < FIRST and affordable:
        assert len(times) >= len([time for time in due if time < 0.94 * seconds - late])


def test_a_resumed_run_goes_on_with_its_times(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, lambda now: 1.0)
    trainer = pretending(tiny_dataset, monkeypatch, machine, Budget(), 1.0, steps=300, patience=0)
    trainer.history.seconds = 130.0
    found = Samples(trainer)
    events = [event for event in trainer.run(between=found.on_time) if isinstance(event, Sampled)]
    assert [round(event.seconds) for event in events] == [160, 320]
    assert all(event.text for event in events)


def test_sampling_changes_no_bit(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sample after each step: the same weights, state and losses, and all samples are kept."""
    monkeypatch.setattr(Samples, "_pass_over", lambda self, seconds: None)
    monkeypatch.setattr(samples, "FRACTION", math.inf)
    config = tiny_config(dropout=0.1, average=0.2)
    for name in ("without", "with"):
        trainer = new_trainer(config, tiny_dataset)
        found = Samples(trainer)
        found._due = 1e-9 if name == "with" else math.inf
        torch.manual_seed(5)
        folder = Run(tmp_path / name)
        folder.folder.mkdir()
        list(runs.train(folder, trainer, between=found.on_time))
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(5)))
    for file in ("last/model.safetensors", "last/optimizer.safetensors"):
        assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "without" / file).read_bytes()
    kinds = [record["event"] for record in read_metrics(tmp_path / "with")]
    assert kinds.count("sampled") == 11  # the last step has that of the end
    assert [kind for kind in kinds if kind != "sampled"] == [
        record["event"] for record in read_metrics(tmp_path / "without")
    ]


def test_a_sample_that_cannot_be_had_stops_nothing(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "FRACTION", math.inf)
    for error in (MygptError("not finite"), MemoryError(), RuntimeError("CUDA out of memory. Tried")):
        trainer = new_trainer(tiny_config(), tiny_dataset)
        found = Samples(trainer)
        found._due = 1e-9

        def fail(tokens: int, most: float, error: Exception = error) -> Sampled:
            raise error

        monkeypatch.setattr(found, "_sampled", fail)
        kinds = [type(event).__name__ for event in trainer.run(between=found.on_time)]
        assert kinds[-1] == "Finished"
        assert "Sampled" not in kinds
        assert found.at_the_end() is None
    monkeypatch.setattr(found, "_sampled", lambda tokens, most: 1 / 0)
    found._due = 1e-9
    trainer.history.step -= 5
    trainer.history.seconds = 10.0
    with pytest.raises(ZeroDivisionError):
        list(found.on_time())


@pytest.mark.parametrize(
    ("seconds", "left", "most"),
    [
        (10.0, 5.0, ENDING),
        (100.0, 5.0, 1.0),
        (1e6, math.inf, LONGEST_ENDING),
        (1e6, 1.5, 1.5),
        (1e6, -3.0, ENDING),
    ],
)
def test_the_one_at_the_end_takes_what_is_left(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, seconds: float, left: float, most: float
) -> None:
    machine = Machine(monkeypatch, lambda now: 1.0)
    machine.now = seconds
    trainer = new_trainer(tiny_config(), tiny_dataset)
    trainer.history.seconds, trainer.budget = seconds, Budget(seconds + left)
    found, asked = Samples(trainer), []

    def written(tokens: int, most: float) -> Sampled:
        asked.append(most)
        return Sampled(step=1, seconds=seconds, text="a" if len(asked) == 1 else " \n")

    monkeypatch.setattr(found, "_sampled", written)
    assert found.at_the_end()
    assert asked == [pytest.approx(most)]
    assert found.at_the_end() is None  # there is nothing to show


def test_the_strip_remains(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samples, "FIRST", 0.01)
    monkeypatch.setattr(samples, "FRACTION", 100.0)
    Path("text.txt").write_text("".join(f"{n} and {n}.\n" for n in range(300)), encoding="utf-8")
    command = ["train", "text.txt", "--tokenizer", "char", "--layers", "1", "--heads", "1", "--width", "16"]
    command += ["--context", "16", "--steps", "60", "--name", "a"]
    assert run(command) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("sample ")]
    assert len(lines) > 2
    assert all(line[10:].split(" ")[1] == "s:" for line in lines[:-1])
    assert run(["inspect", "a-001", "--json"]) == 0
    written = json.loads(capfd.readouterr().out)["history"]["samples"]
    assert len(written) >= len(lines) - 1
    seconds = [sample["seconds"] for sample in written]
    assert seconds == sorted(seconds)
    assert written[-1]["step"] == 60
    assert run(["inspect", "a-001"]) == 0
    assert "samples while it was trained" in capfd.readouterr().out
    assert run([*command, "--json"]) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    sampled = [event for event in events if event["event"] == "sampled"]
    assert sampled
    assert all(set(event) == {"event", "step", "seconds", "text"} for event in sampled)

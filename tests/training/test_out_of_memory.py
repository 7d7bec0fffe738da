"""A step or a validation for which memory does not suffice at once."""

from dataclasses import replace

import pytest
import torch

from mygpt_cli.base.errors import ResourceError
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.events import CheckpointDue, Noted
from tests.conftest import tiny_config
from tests.helpers.trainers import (
    ON_A_GPU,
    ON_LINUX,
    ON_ONE_DNN,
    ON_WINDOWS,
    new_trainer,
    run_out_of_memory,
    same_weights,
)


@pytest.mark.parametrize("error", [ON_A_GPU, ON_LINUX, ON_WINDOWS, ON_ONE_DNN, MemoryError()], ids=repr)
def test_when_memory_runs_out_a_step_is_taken_in_parts(
    tiny_dataset: Dataset, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its first step, so that all of it is the run with small batches: to the bit, dropout included."""
    config = tiny_config(batch_size=12, accumulation=2, dropout=0.1)
    trainer = new_trainer(config, tiny_dataset)
    run_out_of_memory(trainer, 3, error, monkeypatch)
    events = list(trainer.run())
    small = new_trainer(replace(config, batch_size=3, accumulation=8), tiny_dataset)
    list(small.run())
    assert same_weights(trainer.model, small.model)
    assert trainer.config == small.config
    assert trainer.tokens_per_step == 24 * config.context
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert [note.split(";")[0] for note in notes] == [
        "memory ran out: each step now takes 4 micro-batches of 6 sequences",
        "memory ran out: each step now takes 8 micro-batches of 3 sequences",
    ]
    assert next(e.step for e in events if isinstance(e, CheckpointDue)) == 1


def test_when_memory_runs_out_late_nothing_but_rounding_changes(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second part of the fourth step fails: what the first part had gathered is forgotten."""
    config = tiny_config(batch_size=9, accumulation=2, optimizer="adamw")
    trainer, plain = new_trainer(config, tiny_dataset), new_trainer(config, tiny_dataset)
    run_out_of_memory(trainer, 8, ON_LINUX, monkeypatch, calls=3 * 2 + 1)
    for step in range(8):
        loss, norm = trainer.update(step)
        assert list(plain.update(step)) == pytest.approx([loss, norm], abs=1e-4)
        assert trainer.config.accumulation == (2 if step < 3 else 6)


def test_a_single_sequence_that_does_not_fit_ends_the_run(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(tiny_config(), tiny_dataset)
    run_out_of_memory(trainer, 0, ON_A_GPU, monkeypatch, calls=5)
    with pytest.raises(ResourceError, match="a single sequence of 16 tokens") as fault:
        list(trainer.run())
    assert fault.value.exit_code == 5
    assert "--context" in fault.value.hint
    assert trainer.history.step == 5


@pytest.mark.parametrize(("error", "batch_size"), [(RuntimeError("sizes do not match"), 4), (ON_ONE_DNN, 1)])
def test_other_faults_are_not_taken_for_a_lack_of_memory(
    error: Exception, batch_size: int, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that may be such a lack is only taken for it while a step can be taken in smaller parts."""
    trainer = new_trainer(tiny_config(), tiny_dataset)
    run_out_of_memory(trainer, 0, error, monkeypatch)
    with pytest.raises(type(error), match=str(error)):
        trainer.update(0)
    assert trainer.config.batch_size == batch_size


def test_what_comes_of_a_lack_of_memory_is_one(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(tiny_config(), tiny_dataset)
    errors = [ON_LINUX, ON_ONE_DNN, ON_ONE_DNN]

    def failing(*arguments: object) -> torch.Tensor:
        raise errors.pop(0)

    monkeypatch.setattr(trainer.backend, "accumulate_gradients", failing)
    with pytest.raises(ResourceError, match="a single sequence"):
        trainer.update(0)
    assert not errors

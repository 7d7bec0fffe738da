"""A model that is sharded among processes trains as one that each has whole, in less memory."""

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.errors import DivergedError, LostProcessError, MygptError, ResourceError, UsageError
from mygpt_cli.base.processes import Processes
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.gpt import GPT
from mygpt_cli.training.events import Finished
from mygpt_cli.training.shards import rows_of
from mygpt_cli.training.trainer import Trainer
from tests.conftest import tiny_config
from tests.helpers.processes import LENGTHS, dataset_in, on_processes
from tests.helpers.trainers import ON_LINUX, as_state, new_trainer, run_to, shards

CURVE: dict[str, object] = {"steps": 50, "log_every": 1, "eval_every": 10, "patience": 0, "shard": True}
KINDS: dict[str, dict[str, object]] = {
    # Four processes take three sequences each: two of them in one pass, and two in two.
    "muon": {"batch_size": 4, "accumulation": 3, "dropout": 0.2, "average": 0.1},
    "adamw": {"batch_size": 12, "optimizer": "adamw", "arch": "gpt2", "dropout": 0.1, "steps": 15},
    "bfloat16": {"batch_size": 12, "dtype": "bfloat16", "steps": 15},
}
CLOSE = {"muon": 1e-4, "adamw": 1e-4, "bfloat16": 2e-3}


def trained(processes: Processes, folder: Path, config: TrainConfig, state: Any = None, to: int = 0) -> Any:
    """Train from a state to a step, or to the end; return what happened, and in the first also the state."""
    dataset = dataset_in(folder)
    trainer = new_trainer(config, dataset, processes)
    if state:
        model = GPT(config.model(dataset.tokenizer.vocab_size))
        model.load_state_dict(state["model"])
        parallel = shards(config, model, processes)
        trainer = Trainer(config, dataset, model, processes=processes, parallel=parallel)
        trainer.load_state(state["optimizer"])
        vars(trainer.history).update(state["history"])
    result = run_to(trainer, to)
    first = processes.first
    return result | {
        "model": {n: p.numpy() for n, p in trainer.delivered().state_dict().items()} if first else {},
        "optimizer": {n: t.numpy() for n, t in trainer.state().items()} if first else {},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_shards_trains_as_one_process(kind: str, folder: Path) -> None:
    config = tiny_config(**CURVE | KINDS[kind])
    [one] = on_processes(1, trained, folder, config)
    assert len(one["losses"]) == config.steps
    for count in (2, 4):
        first, *others = on_processes(count, trained, folder, config)
        for name in ("losses", "norms", "val"):
            assert first[name] == pytest.approx(one[name], abs=CLOSE[kind]), name
            assert all(other[name] == first[name] for other in others)
        for part in ("model", "optimizer"):
            assert {n: a.shape for n, a in first[part].items()} == {n: a.shape for n, a in one[part].items()}


def test_sharded_or_not_goes_on_with_the_other(folder: Path) -> None:
    config = tiny_config(**CURVE | KINDS["muon"] | {"steps": 24})
    copies = tiny_config(**CURVE | KINDS["muon"] | {"steps": 24, "shard": False})
    [whole] = on_processes(1, trained, folder, config)
    state: Any = None
    losses: list[float] = []
    for count, kind, to in (
        (1, copies, 4),
        (2, config, 8),
        (4, config, 13),
        (3, copies, 18),
        (3, config, 24),
    ):
        result = on_processes(count, trained, folder, kind, state, to)[0]
        losses += result["losses"]
        state = as_state(result)
    assert losses == pytest.approx(whole["losses"], abs=1e-4)
    for part in ("model", "optimizer"):
        assert state[part].keys() == whole[part].keys()
        for name, array in whole[part].items():
            assert torch.allclose(state[part][name], torch.from_numpy(array), atol=2e-3), name


def validated(processes: Processes, folder: Path, arch: str) -> list[float]:
    dataset = dataset_in(folder)
    trainer = new_trainer(tiny_config(batch_size=6, shard=True, arch=arch), dataset, processes)
    before = [trainer.validation_loss(dataset.val[:length]) for length in LENGTHS]
    trainer.update(0)
    return [*before, trainer.validation_loss(dataset.val)]


@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_every_token_is_validated_once_and_with_the_weights_of_now(folder: Path, arch: str) -> None:
    [one] = on_processes(1, validated, folder, arch)
    for losses in on_processes(3, validated, folder, arch):
        assert losses == pytest.approx(one, rel=1e-5)


def numbers_of(processes: Processes, folder: Path, config: TrainConfig) -> tuple[int, int, int]:
    """Return how many numbers a process has of the model and its gradients, and of what is beside it."""
    trainer = new_trainer(config, dataset_in(folder), processes)
    trainer.update(0)
    held = [t.to_local() if hasattr(t, "to_local") else t for t in trainer.model.parameters()]
    gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    own = [t.to_local() if hasattr(t, "to_local") else t for t in gradients]
    beside = [*trainer.optimizer.state().values(), *trainer.average._other.values()]
    return tuple(sum(t.numel() for t in tensors) for tensors in (held, own, beside))  # type: ignore


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_each_process_has_its_part_of_everything(optimizer: str, folder: Path) -> None:
    config = tiny_config(shard=True, average=0.1, optimizer=optimizer)
    [whole] = on_processes(1, numbers_of, folder, config)
    parts = on_processes(4, numbers_of, folder, config)
    for place, total in enumerate(whole):
        numbers = [part[place] for part in parts]
        assert total <= sum(numbers) <= 1.05 * total  # the number of steps is there in each
        assert max(numbers) < 0.3 * total


def interfered(processes: Processes, folder: Path, what: str) -> Any:
    """Train while something befalls the last process, and only this one."""
    trainer = new_trainer(tiny_config(steps=12, batch_size=6, shard=True), dataset_in(folder), processes)
    accumulate = trainer.backend.accumulate_gradients
    step = 11 if what == "broken" else 7

    def interfering(*arguments: Any) -> torch.Tensor:
        if processes.first or trainer.history.step != step:
            return accumulate(*arguments)
        if what == "memory":
            raise ON_LINUX
        if what == "error":
            raise RuntimeError("no such luck")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        loss = accumulate(*arguments)
        if what == "broken":
            trainer._parallel.parameters["embedding"].fill_(math.inf)
            return loss
        return loss * math.nan

    trainer.backend.accumulate_gradients = interfering  # type: ignore
    [finished] = [event for event in trainer.run() if isinstance(event, Finished)]
    return finished.refused, finished.reason


def test_a_step_with_numbers_out_of_bounds_is_refused_by_all(folder: Path) -> None:
    assert on_processes(2, interfered, folder, "nan") == [(1, "done")] * 2


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("memory", ResourceError, "memory ran out on 3 sequences at once, and a sharded step cannot"),
        ("error", RuntimeError, "no such luck"),
        ("kill", type(None), "None"),
    ],
)
def test_what_ends_one_ends_all(what: str, kind: type[Exception], words: str, folder: Path) -> None:
    first, second = on_processes(2, interfered, folder, what)
    assert isinstance(first, LostProcessError)
    assert isinstance(second, kind)
    assert words in str(second)
    if isinstance(second, MygptError):
        assert second.hint.startswith("`--batch-size 1 --accumulation 6` takes each step in smaller parts")


def test_weights_that_are_not_finite_are_saved_by_nobody(folder: Path) -> None:
    for error in on_processes(2, interfered, folder, "broken"):
        assert isinstance(error, DivergedError)
        assert error.message == "training diverged: at step 12, embedding is no longer finite"


def test_one_process_cannot_shard() -> None:
    with pytest.raises(UsageError, match="--shard splits the model among several processes, and there"):
        Processes().mesh(torch.device("cpu"))


@given(st.integers(0, 40), st.integers(1, 9))
def test_rows_are_those_of_chunks(rows: int, count: int) -> None:
    numbers = torch.arange(rows)
    parts = [numbers[rows_of(process, count, rows)] for process in range(count)]
    assert torch.equal(torch.cat(parts), numbers)
    if rows:
        chunks = torch.chunk(numbers, count)
        assert [len(part) for part in parts] == [*map(len, chunks), *[0] * (count - len(chunks))]

"""Several processes, connected as torchrun connects them, train as one does."""

import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mygpt_cli.base.errors import LostProcessError, MygptError, UsageError
from mygpt_cli.base.processes import Processes
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.training.budget import Budget
from mygpt_cli.training.events import CheckpointDue, Corrected, Finished, Progress
from mygpt_cli.training.history import History
from mygpt_cli.training.processes import _silent, connect
from tests.conftest import tiny_config
from tests.helpers.processes import LENGTHS, dataset_in, on_processes
from tests.helpers.trainers import ON_LINUX, as_state, new_trainer, run_to

CURVE: dict[str, object] = {"steps": 50, "log_every": 1, "eval_every": 10, "patience": 0}
KINDS: dict[str, dict[str, object]] = {
    # With four processes, each takes three sequences: from a pass of four, or from two.
    "muon": {"batch_size": 4, "accumulation": 3, "dropout": 0.2, "bpe_dropout": 0.2},
    "adamw": {"batch_size": 8, "optimizer": "adamw", "arch": "gpt2", "dropout": 0.1, "steps": 15},
    "members": {"batch_size": 8, "dropout": 0.2, "members": 2, "average": 0.1, "steps": 15},
}


def trained(processes: Processes, folder: Path, config: TrainConfig, state: Any = None, to: int = 0) -> Any:
    """Train from a state to a step, or to the end; return losses, validations and the state by then."""
    trainer = new_trainer(config, dataset_in(folder), processes)
    if state:
        trainer.model.load_state_dict(state["model"])
        trainer.load_state(state["optimizer"])
        vars(trainer.history).update(state["history"])
    result = run_to(trainer, to)
    return result | {
        "model": {name: tensor.numpy() for name, tensor in trainer.model.state_dict().items()},
        "optimizer": {name: tensor.numpy() for name, tensor in trainer.state().items()},
    }


def same_bits(one: Any, other: Any) -> bool:
    return all(
        one[part][name].tobytes() == other[part][name].tobytes()
        for part in ("model", "optimizer")
        for name in one[part]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_processes_trains_as_one(kind: str, folder: Path) -> None:
    config = tiny_config(**CURVE | KINDS[kind])
    [one] = on_processes(1, trained, folder, config)
    assert len(one["losses"]) == config.steps
    for count in (2, 4):
        first, *others = on_processes(count, trained, folder, config)
        for name in ("losses", "norms", "val"):
            assert first[name] == pytest.approx(one[name], abs=1e-4), name
        assert all(same_bits(first, other) for other in others)
        if count == 2 and kind == "muon":
            assert same_bits(first, on_processes(2, trained, folder, config)[0])


def test_any_number_of_processes_goes_on_with_any(folder: Path) -> None:
    config = tiny_config(**CURVE | KINDS["muon"] | {"steps": 24})
    [whole] = on_processes(1, trained, folder, config)
    state: Any = None
    losses: list[float] = []
    for count, to in ((1, 8), (2, 16), (4, 24)):
        result = on_processes(count, trained, folder, config, state, to)[-1]
        losses += result["losses"]
        state = as_state(result)
    assert losses == pytest.approx(whole["losses"], abs=1e-4)
    for part in ("model", "optimizer"):
        for name, array in whole[part].items():
            assert torch.allclose(state[part][name], torch.from_numpy(array), atol=2e-3), name


def validated(processes: Processes, folder: Path, arch: str) -> list[float]:
    dataset = dataset_in(folder)
    trainer = new_trainer(tiny_config(batch_size=8, arch=arch), dataset, processes)
    return [trainer.validation_loss(dataset.val[:length]) for length in LENGTHS]


@pytest.mark.parametrize("arch", ["llama", "qwen3"])  # which is validated in rows of 16 and of 128 tokens
def test_every_token_is_validated_once_however_many_there_are(folder: Path, arch: str) -> None:
    [one] = on_processes(1, validated, folder, arch)
    assert one == sorted(one)
    for losses in on_processes(4, validated, folder, arch):
        assert losses == pytest.approx(one, rel=1e-5)


def short_of_memory(processes: Processes, folder: Path, config: TrainConfig) -> Any:
    """Let the last process fail on more than one sequence from the fourth step on."""
    trainer = new_trainer(config, dataset_in(folder), processes)
    accumulate = trainer.backend.accumulate_gradients

    def failing(ids: torch.Tensor, *arguments: Any) -> torch.Tensor:
        if trainer.history.step >= 3 and len(ids) > 1 and processes.rank == processes.count - 1:
            raise ON_LINUX
        return accumulate(ids, *arguments)

    trainer.backend.accumulate_gradients = failing  # type: ignore
    events = list(trainer.run())
    return trainer.config, [event.loss for event in events if isinstance(event, Progress)]


def test_memory_that_runs_out_in_one_makes_smaller_parts_in_all(folder: Path) -> None:
    config = tiny_config(batch_size=8, optimizer="adamw", log_every=1)
    [(alone, losses)] = on_processes(1, short_of_memory, folder, config)
    assert (alone.batch_size, alone.accumulation) == (1, 8)
    for changed, same in on_processes(2, short_of_memory, folder, config):
        assert (changed.batch_size, changed.accumulation) == (1, 8)
        assert same == pytest.approx(losses, abs=1e-4)


def interfered(processes: Processes, folder: Path, what: str) -> Any:
    """Train while something befalls the last process, and only this one."""
    trainer = new_trainer(tiny_config(steps=30, batch_size=6), dataset_in(folder), processes)
    last = processes.rank == processes.count - 1
    accumulate = trainer.backend.accumulate_gradients

    def interfering(*arguments: Any) -> torch.Tensor:
        loss = accumulate(*arguments)
        if last and trainer.history.step == 7:
            if what == "nan":
                return loss * math.nan
            if what == "error":
                raise RuntimeError("no such luck")
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "stray":
                next(trainer.model.parameters()).data[0, 0] += 1.0
        return loss

    trainer.backend.accumulate_gradients = interfering  # type: ignore
    trainer.budget = Corrections()
    stop = (lambda: "SIGTERM" if trainer.history.step == 9 else None) if last and what == "stop" else None
    events = list(trainer.run(stop) if stop else trainer.run())
    return [
        (type(event).__name__, event.step, getattr(event, "reason", ""), getattr(event, "refused", 0))
        for event in events
        if isinstance(event, Corrected | CheckpointDue | Finished)
    ]


class Corrections(Budget):
    """A clock by which only the first process is on time."""

    def correction(self, config: TrainConfig, history: History) -> int | None:
        return {5: 24}.get(history.step) if os.environ.get("RANK") == "0" else {4: 12}.get(history.step)


@pytest.mark.parametrize(("what", "end"), [("nan", ("done", 1)), ("stop", ("SIGTERM", 0))])
def test_all_agree_how_training_goes_on(what: str, end: tuple[str, int], folder: Path) -> None:
    first, *others = on_processes(3, interfered, folder, what)
    assert all(other == first for other in others)
    assert ("Corrected", 5, "", 0) in first
    assert first[-1] == ("Finished", 9 if what == "stop" else 24, *end)


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("kill", LostProcessError, "has ended, or cannot be reached"),
        ("error", MygptError, "another process of this run has failed"),
        ("stray", MygptError, "the model of process 1 is no longer that of process 0"),
    ],
)
def test_what_ends_one_ends_all(what: str, kind: type[MygptError], words: str, folder: Path) -> None:
    began = time.monotonic()
    first, second = on_processes(2, interfered, folder, what)
    assert isinstance(first, kind)
    assert words in first.message
    assert first.exit_code == 1
    assert str(second) == {"kill": "None", "error": "no such luck", "stray": first.message}[what]
    assert time.monotonic() - began < 60


def alike(processes: Processes) -> tuple[bool, str]:
    speaks = processes.speaks()
    about = {"--lr": 0.1 if processes.rank == 2 else 0.2, "--width": 3, "files": ["ü"]}
    assert processes.of(1, [processes.rank, math.inf, "ü"]) == [1, math.inf, "ü"]
    processes.check_same({"--width": 3})
    processes.stepped(0.1)
    processes.stepped(0.1)
    with processes.patiently():
        assert processes.most(processes.rank, -processes.rank) == [2, 0]
    assert processes.gather(torch.tensor([processes.rank])) == [torch.tensor([n]) for n in range(3)]
    try:
        processes.check_same(about)
    except UsageError as error:
        return speaks, error.message
    return speaks, ""


def test_what_differs_is_named_and_told_by_one() -> None:
    answers = on_processes(3, alike)
    assert sum(speaks for speaks, _ in answers) == 1
    for _, said in answers:
        assert "must be alike, but --lr: 0.1 in process 2, on " in said
        assert said.endswith("and 0.2 in process 0")


def test_variables_of_torchrun_are_asked_for() -> None:
    given = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    with (
        pytest.raises(UsageError, match="torchrun sets LOCAL_RANK, MASTER_PORT, but not here"),
        connect(given),
    ):
        pass


def test_nothing_is_written_to_stdout_while_processes_connect(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever a library writes there itself."""
    with _silent():
        os.write(1, b"[Gloo] Rank 0 is connected")
    os.write(1, b"a result")
    assert capfd.readouterr() == ("a result", "")

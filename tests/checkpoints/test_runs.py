"""Run folders: numbering, locks, metrics, and training into them."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mygpt_cli.base.errors import CheckpointError, ResourceError
from mygpt_cli.checkpoints import checkpoint, layout, metrics, runs, saving
from mygpt_cli.checkpoints.metrics import is_running, read_metrics
from mygpt_cli.checkpoints.runs import Run, history_of, run_of
from mygpt_cli.config.sources import from_file
from mygpt_cli.model import masks
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.events import CheckpointDue, Noted, Saved
from mygpt_cli.training.trainer import Trainer
from tests.conftest import tiny_config
from tests.helpers.trainers import ON_LINUX, new_trainer, run_out_of_memory


def test_runs_are_numbered_and_never_overwritten(tmp_path: Path) -> None:
    names = [Run.create(tmp_path, "text", tiny_config()).folder.name for _ in range(3)]
    assert names == ["text-001", "text-002", "text-003"]
    (tmp_path / "text-041").mkdir()
    (tmp_path / "text-more-099").mkdir()
    assert Run.create(tmp_path, "text", tiny_config()).folder.name == "text-042"
    assert tiny_config(**from_file(tmp_path / "text-001" / "config.toml")) == tiny_config()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ResourceError, match="cannot write"):
        Run.create(tmp_path / "file", "text", tiny_config())


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "text", tiny_config())
    with run.locked(), pytest.raises(ResourceError, match="another process"), Run(run.folder).locked():
        pass
    with run.locked():
        pass


def test_training_fills_the_folder(tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = tiny_config()
    run = Run.create(tmp_path, "text", config)
    trainer = new_trainer(config, tiny_dataset)
    events = list(runs.train(run, trainer))
    assert not any(isinstance(event, CheckpointDue) for event in events)
    assert {event.folder.name for event in events if isinstance(event, Saved)} == {"last", "best"}
    last = checkpoint.load(run.folder, prefer=("last",))
    assert last.state is not None
    assert last.state["step"] == 12
    assert all(
        torch.equal(a, b) for a, b in zip(last.model.parameters(), trainer.model.parameters(), strict=True)
    )
    best = checkpoint.load(run.folder)
    assert best.folder.name == "best"
    assert best.state is not None
    assert best.state["step"] == trainer.history.best_step
    kinds = [record["event"] for record in read_metrics(run.folder)]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("evaluated") == 3


def resumed(run: Run, dataset: Dataset) -> Trainer:
    last = checkpoint.load(run.folder, prefer=("last",))
    config, history = tiny_config(**from_file(run.folder / "config.toml")), history_of(last.state)
    model = GPT(config.model(dataset.tokenizer.vocab_size)) if history.stage else last.model
    trainer = Trainer(config, dataset, model, history)
    trainer.load_state(checkpoint.load_optimizer(last.folder))
    run.forget_after(trainer.history.step)
    return trainer


def stop_at(trainer: Trainer, step: int) -> Callable[[], str | None]:
    return lambda: "SIGTERM" if trainer.history.step == step else None


@pytest.mark.parametrize("changes", [{}, {"members": 2, "average": 0.2}], ids=["one model", "members"])
def test_a_resumed_run_equals_one_that_never_stopped(
    tmp_path: Path, tiny_dataset: Dataset, changes: dict[str, Any]
) -> None:
    config = tiny_config(dropout=0.1, **changes)
    whole = Run.create(tmp_path, "whole", config)
    list(runs.train(whole, new_trainer(config, tiny_dataset)))
    halves = Run.create(tmp_path, "halves", config)
    trainer = new_trainer(config, tiny_dataset)
    list(runs.train(halves, trainer, stop_at(trainer, 7)))
    for _ in range(2):  # a crash after the save: the metrics go further than the checkpoint
        with (halves.folder / metrics.METRICS).open("a", encoding="utf-8") as file:
            file.write('{"event": "progress", "step": 8}\n{"event": "prog')
        trainer = resumed(halves, tiny_dataset)
    list(runs.train(halves, trainer))
    for name in ("last/model.safetensors", "last/optimizer.safetensors", "best/model.safetensors"):
        assert (whole.folder / name).read_bytes() == (halves.folder / name).read_bytes(), name

    def validations(run: Run) -> list[tuple[int, float]]:
        return [
            (r["step"], r["bits_per_byte"]) for r in read_metrics(run.folder) if r["event"] == "evaluated"
        ]

    assert validations(whole) == validations(halves)
    steps = [record["step"] for record in read_metrics(halves.folder) if record["event"] == "progress"]
    assert steps == [3, 6, 7, 9, 12]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return all that a checkpoint consists of, without the wall-clock times in its state."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    del files["training_state.json"], files["manifest.json"]
    return files


def test_kept_checkpoints_have_no_gaps_and_no_doubles(tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = tiny_config(keep_every=3)
    whole = Run.create(tmp_path, "whole", config)
    list(runs.train(whole, new_trainer(config, tiny_dataset)))
    assert [folder.name for folder in whole.kept()] == ["000003", "000006", "000009", "000012"]
    halves = Run.create(tmp_path, "halves", config)
    trainer = new_trainer(config, tiny_dataset)
    list(runs.train(halves, trainer, stop_at(trainer, 5)))
    # Cut off at each of the saves of a step, one after the other.
    for name in ("000006", "last", "000009", "best"):
        for event in runs.train(halves, resumed(halves, tiny_dataset)):
            if isinstance(event, Saved) and event.folder.name == name and event.step > 5:
                break
    # Of another end that the run took before, and of a save that was cut off.
    for name in ("000011", "000011.new", "notes"):
        (halves.folder / "kept" / name).mkdir()
    list(runs.train(halves, resumed(halves, tiny_dataset)))
    assert sorted(path.name for path in (halves.folder / "kept").iterdir()) == [
        *("000003", "000006", "000009", "000012", "notes")
    ]
    for one, other in zip(whole.kept(), halves.kept(), strict=True):
        assert files_of(one) == files_of(other)
        assert not (one / layout.OPTIMIZER).exists()
        state = checkpoint.load(one).state
        assert state is not None
        assert f"{state['step']:06d}" == one.name
    assert Run.create(tmp_path, "text", config).kept() == []


def test_a_disk_that_fails_what_is_kept_fails_nothing_else(
    tmp_path: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = saving.save

    def full(path: Path, **parts: object) -> None:
        if path.name in ("000006", "000012"):
            raise ResourceError(f"cannot save to {path}: No space left on device")
        save(path, **parts)  # type: ignore[arg-type]

    monkeypatch.setattr(saving, "save", full)
    config = tiny_config(keep_every=6)
    run = Run.create(tmp_path, "text", config)
    events = list(runs.train(run, new_trainer(config, tiny_dataset)))
    said = [event.step for event in events if isinstance(event, Noted) and "No space left" in event.text]
    assert said == [6, 12]
    last = checkpoint.load(run.folder, prefer=("last",)).state
    assert last is not None
    assert last["step"] == 12
    assert run.kept() == []


def test_a_link_in_place_of_what_is_kept_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "000009").mkdir(parents=True)
    run = Run.create(tmp_path, "text", tiny_config())
    (run.folder / "kept").symlink_to(elsewhere)
    run.forget_after(3)
    assert (elsewhere / "000009").is_dir()
    assert not (run.folder / "kept").exists()


def test_the_run_of_a_folder(tmp_path: Path) -> None:
    folder = Run.create(tmp_path, "text", tiny_config()).folder
    assert run_of(folder) == run_of(folder / "best") == run_of(folder / "last") == folder
    assert run_of(folder / "kept" / "000100") == folder
    assert run_of(folder / "gpt2") is None
    assert run_of(tmp_path) is None


def test_a_state_without_history_is_explained() -> None:
    with pytest.raises(CheckpointError, match="how far"):
        history_of({"step": 3})
    with pytest.raises(CheckpointError, match="how far"):
        history_of({"history": {"stride": 3}})


def test_metrics_survive_a_line_cut_off(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "text", tiny_config())
    (run.folder / metrics.METRICS).write_text(
        json.dumps({"event": "started", "step": 0}) + '\n{"event": "pro', encoding="utf-8"
    )
    assert read_metrics(run.folder) == [{"event": "started", "step": 0}]


@pytest.mark.parametrize("pool", [1 << 23, 1 << 8])  # of random bits for masks; a small one grows
def test_smaller_parts_are_kept_when_a_run_is_resumed(
    pool: int, tmp_path: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "_POOL", pool)
    config = tiny_config(dropout=0.1, save_every=100)
    whole = Run.create(tmp_path, "whole", config)
    trainer = new_trainer(config, tiny_dataset)
    run_out_of_memory(trainer, 2, ON_LINUX, monkeypatch, calls=6)
    list(runs.train(whole, trainer))
    halves = Run.create(tmp_path, "halves", config)
    trainer = new_trainer(config, tiny_dataset)
    run_out_of_memory(trainer, 2, ON_LINUX, monkeypatch, calls=6)
    for event in runs.train(halves, trainer):  # and a crash long after
        if event.step == 9:
            break
    assert from_file(halves.folder / "config.toml")["accumulation"] == 2
    trainer = resumed(halves, tiny_dataset)
    assert trainer.history.step == 7
    run_out_of_memory(trainer, 2, ON_LINUX, monkeypatch)
    list(runs.train(halves, trainer))
    assert not trainer.notes
    for name in ("last/model.safetensors", "last/optimizer.safetensors"):
        assert (whole.folder / name).read_bytes() == (halves.folder / name).read_bytes(), name
    assert any("memory ran out" in record.get("text", "") for record in read_metrics(halves.folder))


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes in folders on Windows")
@pytest.mark.parametrize("what", ["pipe", "device", "long line", "many lines", "much in a line"])
def test_hostile_metrics_take_no_time_and_memory(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MOST_EVENTS", 100)
    run = Run.create(tmp_path, "text", tiny_config())
    path, line = run.folder / metrics.METRICS, '{"event": "noted", "step": 3, "text": ""}\n'
    if what == "pipe":
        os.mkfifo(path)
        os.mkfifo(run.folder / metrics.LOCK)
        assert not is_running(run.folder)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "long line":
        path.write_text(line + "x" * 10_000_000 + "\n" + line, encoding="utf-8")
    elif what == "many lines":
        path.write_text(line * 1000, encoding="utf-8")
    else:
        path.write_text(line.replace('""', '"", "a": [[], []]'), encoding="utf-8")
    expected = {"pipe": 0, "device": 0, "long line": 2, "many lines": 100, "much in a line": 1}
    assert read_metrics(run.folder) == [{"event": "noted", "step": 3, "text": ""}] * expected[what]


@pytest.mark.parametrize("at", [4, 10, 12])
def test_a_run_with_more_steps_can_be_interrupted_too(at: int, tmp_path: Path, tiny_dataset: Dataset) -> None:
    config = tiny_config()
    folders = []
    for stops in ([at], [at, at + 1], [at, 30]):
        run = Run.create(tmp_path, "run", config)
        trainer = new_trainer(config, tiny_dataset)
        list(runs.train(run, trainer, stop_at(trainer, stops[0])))
        run.configure(replace(config, steps=40))
        trainer = resumed(run, tiny_dataset)
        trainer.extend(config.course)
        list(runs.train(run, trainer, stop_at(trainer, stops[-1] if stops[1:] else 99)))
        trainer = resumed(run, tiny_dataset)
        list(runs.train(run, trainer))
        folders.append(run.folder)
    for name in ("last/model.safetensors", "last/optimizer.safetensors"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name

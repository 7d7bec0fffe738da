"""Which checkpoint a path means, and what is said where it means none."""

import os
import shutil
from pathlib import Path

import pytest

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.checkpoints import checkpoint, finding, layout
from mygpt_cli.inspection.runs import list_runs
from mygpt_cli.tokens.dataset import Dataset
from tests.helpers.models import random_model
from tests.helpers.saved import save


def test_a_run_folder_falls_back_and_says_so(tmp_path: Path, tiny_dataset: Dataset) -> None:
    model = random_model(arch="gpt2", vocab_size=tiny_dataset.tokenizer.vocab_size)
    for name, step in (("best", 1), ("last", 2)):
        save(tmp_path / name, model, tiny_dataset, step=step)
    assert checkpoint.load(tmp_path).state == {"step": 1}
    assert checkpoint.load(tmp_path, prefer=("last", "best")).state == {"step": 2}
    weights = tmp_path / "best" / layout.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-7])
    fallen = checkpoint.load(tmp_path)
    assert fallen.state == {"step": 2}
    assert "damaged" in fallen.notes[0]
    assert fallen.notes[-1] == f"using {tmp_path / 'last'}"


def test_a_missing_checkpoint_gets_a_suggestion(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="did you mean 'model'"):
        checkpoint.load(saved.parent / "modle")
    with pytest.raises(CheckpointError, match="is not a folder"):
        checkpoint.load(saved / "config.json")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.load(saved.parent)


def test_a_run_that_has_only_kept_checkpoints_names_the_newest(saved: Path) -> None:
    run = saved.parent / "run"
    for name in ("000900", "001000", "001100.new", "002000"):
        shutil.copytree(saved, run / "kept" / name)
    (run / "kept" / "002000" / layout.WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="holds no checkpoint") as fault:
        checkpoint.load(run)
    assert fault.value.hint == f"use the newest that was kept: {run / 'kept' / '001000'}"


def test_a_run_with_only_kept_checkpoints_comes_after_all_others(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no trained model"):
        finding.newest_run(tmp_path)
    for age, folder in enumerate(("kept/kept/000100", "newer/best", "older/last", "torn/kept/000100.new")):
        checkpoint_of_run = tmp_path / folder
        checkpoint_of_run.mkdir(parents=True)
        if age == 3:  # a save that was cut off
            continue
        (checkpoint_of_run / layout.MANIFEST).touch()
        os.utime(checkpoint_of_run / layout.MANIFEST, (1000 - age, 1000 - age))
    assert finding.newest_run(tmp_path) == tmp_path / "newer"
    shutil.rmtree(tmp_path / "newer")
    assert finding.newest_run(tmp_path) == tmp_path / "older"
    shutil.rmtree(tmp_path / "older")
    assert finding.newest_run(tmp_path) == tmp_path / "kept"


def test_a_folder_that_may_not_be_read_hides_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("private", "run", "secret"):
        (tmp_path / name / "last").mkdir(parents=True)
        (tmp_path / name / "last" / layout.MANIFEST).touch()
        (tmp_path / name / "config.toml").touch()
    is_file = Path.is_file

    def denied(path: Path) -> bool:
        if {"private", "secret"} & {*path.parts}:
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", denied)
    assert finding.newest_run(tmp_path) == tmp_path / "run"
    assert [found.name for found in list_runs(tmp_path)] == ["run"]

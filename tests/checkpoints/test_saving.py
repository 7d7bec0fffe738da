"""Saving leaves a whole checkpoint at every moment, also where it is cut off or the disk fails."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mygpt_cli.base.errors import CheckpointError, ResourceError
from mygpt_cli.checkpoints import checkpoint, layout, saving
from mygpt_cli.tokens.dataset import Dataset
from tests.helpers.saved import save


def test_a_save_cut_off_between_its_renames_loses_nothing(saved: Path, tiny_dataset: Dataset) -> None:
    """At no moment of a save is there no checkpoint to open."""
    run = saved.parent / "run"
    run.mkdir()
    model = checkpoint.load(saved).model
    shutil.copytree(saved, run / "last.old")
    assert checkpoint.load(run, prefer=("last",)).state == {"step": 1}
    shutil.copytree(saved, run / "last.new")
    (run / "last.new" / layout.MANIFEST).unlink()
    save(run / "last", model, tiny_dataset, step=2)
    assert sorted(entry.name for entry in run.iterdir()) == ["last"]
    assert checkpoint.load(run, prefer=("last",)).state == {"step": 2}


def test_what_a_save_cut_off_at_its_end_left_is_no_hindrance(saved: Path, tiny_dataset: Dataset) -> None:
    model = checkpoint.load(saved).model
    shutil.copytree(saved, saved.parent / "model.old")
    shutil.copytree(saved, saved.parent / "model.new")
    save(saved, model, tiny_dataset, step=2)
    assert checkpoint.load(saved).state == {"step": 2}
    assert not (saved.parent / "model.old").exists()


def test_a_checkpoint_can_be_read_while_it_is_replaced(saved: Path, tiny_dataset: Dataset) -> None:
    model = checkpoint.load(saved).model
    faults: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                checkpoint.load(saved)
            except CheckpointError as fault:
                faults.append(fault)

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(60):
        save(saved, model, tiny_dataset, step=step)
    done.set()
    reader.join()
    assert faults == []


@pytest.mark.parametrize("call", ["rename", "mkdir", "write_text"])
def test_a_failing_disk_leaves_the_old_checkpoint(
    saved: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    model = checkpoint.load(saved).model
    real = getattr(Path, call)

    def failing(path: Path, *arguments: object, **options: object) -> object:
        if path.name == "model.new" or path.parent.name == "model.new":
            raise OSError(28, os.strerror(28))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, call, failing)
    with pytest.raises(ResourceError, match="No space left on device") as fault:
        save(saved, model, tiny_dataset, step=2)
    assert fault.value.hint.endswith("; the checkpoint saved before is intact")
    with pytest.raises(ResourceError, match="No space left on device") as fault:  # as the very first
        save(saved.parent / "first" / "model", model, tiny_dataset, step=2)
    assert fault.value.hint.endswith("with --out")
    monkeypatch.undo()
    assert checkpoint.load(saved).state == {"step": 1}
    assert not (saved.parent / "model.new").exists()


def test_saved_files_have_ordinary_permissions(saved: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in saved.iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_large_weights_are_saved_in_several_files(saved: Path, tiny_dataset: Dataset) -> None:
    model, folder, limit = checkpoint.load(saved).model, saved.parent / "large", 20_000
    parts = {"model": model, "tokenizer": tiny_dataset.tokenizer, "state": {"step": 2}}
    saving.save(folder, **parts, largest_file=limit)  # type: ignore[arg-type]
    layout.verify(folder)
    index = json.loads((folder / layout.INDEX).read_text(encoding="utf-8"))
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 2
    assert [path.name for path in files] == [
        f"model-{number:05d}-of-{len(files):05d}.safetensors" for number in range(1, len(files) + 1)
    ]
    sizes = [[t.numel() * t.itemsize for t in load_file(path).values()] for path in files]
    assert all(sum(each) <= limit or len(each) == 1 for each in sizes)
    assert index["metadata"]["total_size"] == sum(map(sum, sizes))
    for name, weights in checkpoint.load(folder).model.state_dict().items():
        assert torch.equal(weights, model.state_dict()[name])
    theirs, whole = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, saved))
    for name, weights in theirs.state_dict().items():
        assert torch.equal(weights, whole.state_dict()[name])
    saving.save(folder, **parts)  # type: ignore[arg-type]
    assert [path.name for path in folder.glob("model*")] == [layout.WEIGHTS]

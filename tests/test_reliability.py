"""Nothing lost, nobody let in: the short form of `benchmarks/reliability/`, and the network stays closed."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.reliability.damage import damage
from benchmarks.reliability.mutations import KINDS, SLOW, harm, opened
from benchmarks.reliability.samples import copy_of, make_run, vouch_for
from benchmarks.reliability.tokenizer_folders import TOKENIZERS, make_tokenizer
from mygpt_cli.base.errors import CheckpointError, ResourceError
from mygpt_cli.checkpoints import checkpoint, layout, saving
from mygpt_cli.checkpoints.metrics import METRICS
from mygpt_cli.checkpoints.runs import Run, history_of, train
from mygpt_cli.cli.app import run
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.events import Finished, Noted
from tests.conftest import tiny_config
from tests.helpers.trainers import new_trainer

ON_LINUX = sys.platform == "linux" and shutil.which("cc")


def test_damage_is_noticed_and_the_other_checkpoint_offered(tmp_path: Path) -> None:
    rows = damage(make_run(tmp_path / "run") / "last", flips=20, every=211)
    assert {name: row.faults for name, row in rows.items() if row.faults} == {}
    assert len(rows) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_checkpoint_is_refused_or_works(kind: str, tmp_path: Path) -> None:
    good = make_run(tmp_path / "run") / "best"
    expected = checkpoint.load(good).model.state_dict()
    for number in range(30):
        what = harm(copy_of(good, good.with_name("tried")), kind, f"test-{number}")
        outcome = opened(good.with_name("tried"), expected)
        assert outcome in ("refused", "equal", "another"), what


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_hostile_tokenizer_is_refused_or_works(kind: str, tmp_path: Path) -> None:
    arch, tokenizer = make_tokenizer(tmp_path / "files", kind)
    good = make_run(tmp_path / "run", arch, tokenizer) / "best"
    expected = checkpoint.load(good).model.state_dict()
    for number in range(8):
        what = harm(copy_of(good, good.with_name("tried")), kind, f"test-{number}")
        assert opened(good.with_name("tried"), expected) in ("refused", SLOW, "equal", "another"), what


@pytest.mark.skipif(not ON_LINUX, reason="needs Linux and a C compiler")
@pytest.mark.parametrize(
    "command",
    [
        "disk --only save --every 40",
        "kills --count 2",
        "resuming --every 63",
        "interruptions --count 1 --only closed",
        "numbers --count 3",
        "texts --count 5 --megabytes 0",
        "terminal --every 60",
        "sharing --count 1",
        "full --count 1",
    ],
)
def test_the_short_form(command: str) -> None:
    """Each prints its table and says with its exit code whether anything was lost."""
    namespace = ["unshare", "--map-root-user", "--mount", "true"]
    if command.startswith("full") and subprocess.run(namespace, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no one mount a file system")
    arguments = [sys.executable, "-m", *f"benchmarks.reliability.{command}".split()]
    done = subprocess.run(
        arguments,
        capture_output=True,
        check=False,
        text=True,
        cwd=Path(__file__).parents[1],
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_training_goes_on_while_the_disk_is_full(
    tmp_path: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    folder = Run.create(tmp_path, "text", config)
    trainer = new_trainer(config, tiny_dataset)
    save = saving.save

    def full(path: Path, **parts: object) -> None:
        if trainer.history.step in (5, 8):
            raise ResourceError(f"cannot save to {path}: No space left on device")
        save(path, **parts)  # type: ignore[arg-type]

    monkeypatch.setattr(saving, "save", full)
    events = list(train(folder, trainer))
    said = [event for event in events if isinstance(event, Noted) and "No space left" in event.text]
    assert [event.step for event in said] == [5, 8]
    assert isinstance(events[-1], Finished)
    best = checkpoint.load(folder.folder).state
    assert best is not None
    assert best["step"] == trainer.history.best_step

    trainer = new_trainer(tiny_config(steps=8), tiny_dataset)
    with pytest.raises(ResourceError, match="No space left"):
        list(train(Run.create(tmp_path, "text", config), trainer))


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_nothing_is_written_or_read_through_a_link(tmp_path: Path, tiny_dataset: Dataset) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine", encoding="utf-8")
    config = tiny_config()
    folder = Run.create(tmp_path, "text", config)
    for name in (METRICS, "config.toml.new"):
        (folder.folder / name).symlink_to(outside)
    folder.configure(config)
    with pytest.raises(ResourceError):
        list(train(folder, new_trainer(config, tiny_dataset)))
    (folder.folder / ".lock").symlink_to(tmp_path / "made")
    with pytest.raises(ResourceError, match="cannot lock"), folder.locked():
        pass
    assert outside.read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "made").exists()
    model = make_run(tmp_path / "run") / "best"
    (model / "config.json").rename(tmp_path / "config.json")
    (model / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="link out"):
        checkpoint.load(model)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_into_the_cache_of_hugging_face_open(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--mine" / "snapshots" / "0123"
    blobs = tmp_path / "models--me--mine" / "blobs"
    blobs.mkdir(parents=True)
    copy_of(make_run(tmp_path / "run") / "best", snapshot)
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(Path("../../blobs") / str(number))
    assert checkpoint.load(snapshot).folder == snapshot


def poisoned(folder: Path) -> None:
    path = folder / layout.WEIGHTS
    tensors = load_file(path)
    next(iter(tensors.values()))[0] = torch.nan
    save_file(tensors, path)


def piped(folder: Path) -> None:
    (folder / layout.STATE).unlink()
    os.mkfifo(folder / layout.STATE)


def test_a_manifest_that_names_what_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run") / "best"
    manifest = folder / layout.MANIFEST
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace('"tokenizer.json"', f'"{"x" * 5000}"'), encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match="too long"):
        checkpoint.load(folder)


@pytest.mark.skipif(os.name == "nt", reason="there are no pipes in folders on Windows")
@pytest.mark.parametrize(
    ("harm", "message"), [(poisoned, "not finite"), (piped, "missing|not an ordinary file")]
)
def test_what_is_no_checkpoint_is_refused(harm: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run") / "best"
    harm(folder)
    vouch_for(folder)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "wrong", [{"step": "7"}, {"step": -1}, {"step": 1.5}, {"overfitting": 1}, {"norm": None}]
)
def test_a_history_of_wrong_values_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="how far"):
        history_of({"history": wrong})


def test_no_connection_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    closed = dict.fromkeys(("connect", "connect_ex", "bind"), refused)
    monkeypatch.setattr(socket, "socket", type("Closed", (socket.socket,), closed))
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("".join(f"{n} and {n} make {2 * n}.\n" for n in range(300)), encoding="utf-8")
    shape = ("--layers", "1", "--heads", "2", "--width", "16", "--context", "16", "--steps", "3")
    assert run(["train", "text.txt", *shape, "--quiet"]) == 0
    model = "checkpoints/text-001"
    assert run(["sample", model, "--prompt", "1", "--max-new-tokens", "3", "--quiet"]) == 0
    assert run(["inspect", model, "--quiet"]) == 0
    assert run(["inspect", model, "--prompt", "1", "--steps", "2", "--quiet"]) == 0

"""Event files for TensorBoard, with a stand-in for the writer of torch, and without it."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mygpt_cli.base.errors import ResourceError
from mygpt_cli.cli.app import run
from mygpt_cli.training.events import Noted
from mygpt_cli.ui.tensorboard import TensorBoard

TINY = ("--layers", "1", "--heads", "2", "--width", "16", "--context", "16", "--batch-size", "4", "--quiet")
MODULE = "torch.utils.tensorboard"


class Writer:
    """Takes what torch's SummaryWriter takes, and remembers it."""

    made: "list[Writer]" = []  # noqa: RUF012 - the tests read it

    def __init__(self, log_dir: Path, purge_step: int | None = None, flush_secs: int = 120) -> None:
        self.folder, self.purge_step = log_dir, purge_step
        self.values: dict[str, list[tuple[int, float]]] = {}
        self.closed = False
        Writer.made.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.values.setdefault(tag, []).append((step, value))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> type[Writer]:
    module: Any = ModuleType(MODULE)
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setattr(Writer, "made", [])
    return Writer


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n} and {n} make {2 * n}.\n" for n in range(300)), encoding="utf-8")
    return path


def test_what_metrics_say_and_a_resumed_run_goes_on(text: Path, writer: type[Writer]) -> None:
    assert run(["train", "text.txt", *TINY, "--steps", "10", "--tensorboard"]) == 0
    (first,) = writer.made
    assert first.folder == Path("checkpoints/text-001/tensorboard")
    assert (first.purge_step, first.closed) == (None, True)
    lines = Path("checkpoints/text-001/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for tag, event, field in (
        ("loss/training", "progress", "loss"),
        ("learning rate", "progress", "lr"),
        ("gradient norm", "progress", "grad_norm"),
        ("tokens per second", "progress", "tokens_per_second"),
        ("loss/validation", "evaluated", "val_loss"),
        ("bits per byte", "evaluated", "bits_per_byte"),
    ):
        wanted = [(record["step"], record[field]) for record in records if record["event"] == event]
        assert first.values[tag] == wanted
        assert wanted

    assert run(["train", "--resume", "text-001", "--steps", "14", "--quiet"]) == 0
    second = writer.made[1]
    assert (second.folder, second.purge_step, second.closed) == (first.folder, 11, True)
    assert min(step for step, _ in second.values["loss/training"]) > 10
    assert run(["train", "--resume", "text-001", "--steps", "16", "--quiet", "--no-tensorboard"]) == 0
    assert len(writer.made) == 2


def test_it_is_closed_when_training_is_broken_off(
    text: Path, writer: type[Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mygpt_cli.checkpoints.runs.Run.save", break_off)
    assert run(["train", "text.txt", *TINY, "--steps", "10", "--tensorboard"]) == 130
    assert writer.made[0].closed


def test_where_it_is_not_installed_nothing_is_begun(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    text.unlink()  # not even the text is looked at
    assert run(["train", "text.txt", *TINY, "--tensorboard"]) == 2
    err = capsys.readouterr().err
    assert "not installed" in err
    assert "hint: pip install tensorboard" in err
    assert not Path("checkpoints").exists()


def test_a_run_without_it_does_not_ask_for_it(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    assert run(["train", "text.txt", *TINY, "--steps", "2"]) == 0


def test_full_disk(tmp_path: Path, writer: type[Writer], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    board = TensorBoard(tmp_path, 0)
    board.log(Noted(step=1, text="no numbers"))
    assert writer.made[0].values == {}
    monkeypatch.setattr(writer, "close", full)
    with pytest.raises(ResourceError, match="No space left"), board:
        pass

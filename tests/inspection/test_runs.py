"""The list of runs: what each says of itself, and what is left out."""

import os
import time
from dataclasses import replace
from pathlib import Path

from mygpt_cli.checkpoints.runs import Run
from mygpt_cli.inspection.runs import list_runs
from mygpt_cli.training.events import Evaluated, Finished, Started
from tests.conftest import tiny_config

STARTED = Started(
    step=0,
    steps=12,
    parameters=1,
    tokens_per_step=1,
    tokens_per_epoch=1,
    device="cpu",
    dtype="float32",
)


def a_run(folder: Path, name: str, *, reason: str | None = "done") -> Run:
    run = Run.create(folder, name, replace(tiny_config(), files=("a.txt",)))
    run.log(STARTED)
    for step, loss in ((5, 3.0), (10, 2.0), (12, 2.5)):
        run.log(
            Evaluated(
                step=step,
                train_loss=loss,
                val_loss=loss,
                bits_per_byte=loss / 2,
                nats_per_character=loss,
                best=True,
                seconds=1.0,
            )
        )
    if reason:
        run.log(
            Finished(step=12, reason=reason, seconds=1.0, best_step=10, best_bits_per_byte=1.0, refused=0)
        )
    return run


def test_each_run_says_how_far_how_good_and_on_what(tmp_path: Path) -> None:
    for number, reason in enumerate(("done", "SIGINT", "no longer improves", None)):
        path = a_run(tmp_path, f"run{number}", reason=reason).folder / "metrics.jsonl"
        os.utime(path, (time.time() - 100 * number,) * 2)
    runs = list_runs(tmp_path)
    assert [run.name for run in runs] == ["run0-001", "run1-001", "run2-001", "run3-001"]
    assert [run.state for run in runs] == ["done", "stopped", "ended early", "cut off"]
    assert {(run.step, run.steps, run.best, run.best_step, run.text) for run in runs} == {
        (12, 12, 1.0, 10, ("a.txt",))
    }
    assert [round(run.age, -2) for run in runs] == [0, 100, 200, 300]


def test_a_run_being_trained_is_running(tmp_path: Path) -> None:
    run = a_run(tmp_path, "now", reason=None)
    with run.locked():
        assert list_runs(tmp_path)[0].state == "running"


def test_what_is_no_run_is_left_out_and_damage_is_no_end(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "none") == []
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    damaged = tmp_path / "damaged-001"
    damaged.mkdir()
    (damaged / "config.toml").write_text("= no TOML", encoding="utf-8")
    (damaged / "metrics.jsonl").write_text("no JSON\n", encoding="utf-8")
    (run,) = list_runs(tmp_path)
    assert (run.name, run.step, run.steps, run.best, run.text) == ("damaged-001", 0, None, None, None)


def test_a_run_without_events_is_as_old_as_its_settings(tmp_path: Path) -> None:
    folder = Run.create(tmp_path, "new", tiny_config()).folder
    os.utime(folder / "config.toml", (time.time() - 50,) * 2)
    (run,) = list_runs(tmp_path)
    assert 49 <= run.age < 60
    assert (run.step, run.steps, run.best, run.text) == (0, 12, None, ())

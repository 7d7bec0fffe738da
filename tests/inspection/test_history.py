"""How a run has gone, read back from its metrics, whole or damaged."""

import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.checkpoints.runs import Run
from mygpt_cli.inspection.history import read_history, smooth
from tests.conftest import tiny_config


def a_run(out: Path, *records: Any, tail: str = "") -> Path:
    folder = Run.create(out, "text", tiny_config()).folder
    lines = "".join(f"{json.dumps(record)}\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines + tail, encoding="utf-8")
    return folder


def progress(step: int, loss: object, **fields: object) -> dict[str, object]:
    return {"event": "progress", "step": step, "loss": loss, "lr": 0.01, "seconds": step / 10, **fields}


def evaluated(step: int, loss: object) -> dict[str, object]:
    return {"event": "evaluated", "step": step, "val_loss": loss, "bits_per_byte": 1.25, "best": True}


STARTED = {"event": "started", "step": 0, "steps": 40}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    end = {"event": "finished", "step": 40, "reason": "done", "seconds": 4.5}
    losses = [STARTED, progress(20, 3.0), evaluated(20, 3.5), progress(40, 2.0), evaluated(40, 3.75), end]
    history = read_history(a_run(tmp_path, *losses, {"event": "noted", "step": 40, "text": "by heart"}))
    assert [(i.step, i.loss, i.lr) for i in history.intervals] == [(20, 3.0, 0.01), (40, 2.0, 0.01)]
    assert [(v.step, v.val_loss) for v in history.validations] == [(20, 3.5), (40, 3.75)]
    assert history.best is not None
    assert history.best.step == 20
    assert (history.step, history.steps, history.share, history.seconds) == (40, 40, 1.0, 4.5)
    assert (history.running, history.reason, history.notes) == (False, "done", ("by heart",))


def test_a_corrected_run_ends_where_it_was_corrected_to(tmp_path: Path) -> None:
    corrections = [{"event": "corrected", "step": 9, "steps": 30, "before": 40}]
    corrections += [{"event": "corrected", "step": 12, "steps": 24, "before": 30}]
    history = read_history(a_run(tmp_path, STARTED, *corrections, progress(18, 3.0)))
    assert (history.step, history.steps, history.share) == (18, 24, 0.75)


def test_a_run_in_another_process_is_running(tmp_path: Path) -> None:
    folder = a_run(tmp_path, STARTED, progress(10, 3.0))
    with Run(folder).locked():
        history = read_history(folder)
        assert (history.running, history.reason, history.share) == (True, None, 0.25)
    history = read_history(folder)
    assert (history.running, history.reason) == (False, None)
    with Run(folder).locked():  # looking has left nothing locked
        pass


def test_a_run_that_has_measured_nothing(tmp_path: Path) -> None:
    folder = Run.create(tmp_path, "text", tiny_config()).folder
    history = read_history(folder)
    assert (history.intervals, history.validations, history.best, history.step) == ((), (), None, 0)
    assert (history.running, history.steps, history.seconds, history.share) == (False, None, None, None)


@pytest.mark.parametrize(
    "damage",
    [
        progress(-3, 2.0),
        progress(10**30, 2.0),
        {"event": "progress", "loss": 2.0},
        {"event": "evaluated", "step": 12, "val_loss": "low"},
        {"event": "evaluated", "step": 12, "val_loss": math.inf},
        {"event": "noted", "step": [], "text": 3},
        {"event": "finished", "reason": 4},
        {"event": ["progress"], "step": 3},
        [1, 2],
    ],
)
def test_damaged_lines_are_left_out(tmp_path: Path, damage: object) -> None:
    folder = a_run(tmp_path, STARTED, progress(10, 3.0), damage, tail='{"event": "progress", "step": 20, "lo')
    history = read_history(folder)
    assert [i.step for i in history.intervals] == [10]
    assert (history.validations, history.notes, history.reason) == ((), (), None)


def test_a_number_that_is_none_leaves_the_others(tmp_path: Path) -> None:
    history = read_history(a_run(tmp_path, progress(10, None), progress(20, 10**400), progress(30, 2.5)))
    assert [(i.loss, i.smoothed, i.lr) for i in history.intervals] == [
        (None, None, 0.01),
        (None, None, 0.01),
        (2.5, 2.5, 0.01),
    ]


def test_depth_that_would_break_a_parser(tmp_path: Path) -> None:
    history = read_history(a_run(tmp_path, progress(10, 3.0), tail="[" * 100_000 + "\n"))
    assert history.step == 10


def test_smoothing_takes_noise_and_leaves_the_curve() -> None:
    curve = [2 + 4 * math.exp(-i / 40) for i in range(400)]
    rng = random.Random(7)
    noisy = [value + rng.gauss(0, 0.1) for value in curve]

    def error(values: list[float]) -> float:
        return statistics.fmean(abs(a - b) for a, b in zip(values, curve, strict=True))

    assert error(smooth(noisy)) < error(noisy) / 2
    assert smooth(curve) == curve


@given(st.lists(st.floats(-1e6, 1e6), max_size=60))
def test_smoothing_keeps_number_ends_and_bounds(values: list[float]) -> None:
    smoothed = smooth(values)
    assert len(smoothed) == len(values)
    if values:
        assert (smoothed[0], smoothed[-1]) == (values[0], values[-1])
        assert min(values) - 1e-3 <= min(smoothed) <= max(smoothed) <= max(values) + 1e-3


def test_samples_are_read_back_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    lines = [
        {"event": "sampled", "step": 9, "seconds": 5.5, "text": "abc"},
        {"event": "sampled", "step": 4, "seconds": None, "text": "x" * 9999},
        {"event": "sampled", "step": 5, "seconds": 1.0, "text": 7},
        {"event": "sampled", "step": 6},
    ]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    assert [(one.step, one.seconds, len(one.text)) for one in read_history(tmp_path).samples] == [
        (4, None, 2000),
        (9, 5.5, 3),
    ]

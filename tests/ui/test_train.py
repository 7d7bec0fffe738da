"""How training looks: numbers, curves, and the live view at any width."""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from benchmarks.reliability.samples import vouch_for
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.events import Corrected, Evaluated, Finished, Progress, Sampled, Started
from mygpt_cli.training.preparation import planned
from mygpt_cli.training.sizing import plan
from mygpt_cli.ui.dashboard import Dashboard, RunView
from mygpt_cli.ui.train import PlainReporter, finished_line
from mygpt_cli.ui.units import duration, size
from tests.conftest import Command
from tests.helpers.trainers import new_trainer


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (64000, "64 kB"),
        (999600, "1.0 MB"),
        (1115394, "1.1 MB"),
        (2400000000, "2.4 GB"),
        (10**13, "10000 GB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 m 00 s"),
        (100, "1 m 40 s"),
        (7500, "2 h 05 m"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def view() -> RunView:
    view = RunView()
    view.started = Started(
        step=0,
        steps=1500,
        parameters=10**6,
        tokens_per_step=2048,
        tokens_per_epoch=400_000,
        device="cpu",
        dtype="bfloat16",
    )
    view.progress = Progress(
        step=700,
        epoch=3.5,
        loss=3.25,
        lr=4.2e-3,
        grad_norm=0.71,
        tokens_per_second=21_300.4,
        seconds=61.0,
        memory=900_000_000,
    )
    view.evaluated = view.best = Evaluated(
        step=600,
        train_loss=3.3,
        val_loss=3.4,
        bits_per_byte=2.01,
        nats_per_character=1.4,
        best=True,
        seconds=50.0,
    )
    view.losses = [(10 * n, 6.0 - n / 30) for n in range(1, 71)]
    text = "First line \x1b[31mnot red\u202e\n\nA very long line " + "that goes on " * 20
    view.samples = [Sampled(step=100 * 2**k, seconds=5.0 * 2**k, text=text) for k in range(3)]
    return view


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_live_view_fits_and_is_safe(width: int) -> None:
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(view())
    text = capture.get()
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert "\x1b[31m" not in text
    assert "\u202e" not in text
    for shown in ("47%", "700/1,500", "3.250 training", "2.01 bits per byte", "21,300 tokens/s"):
        assert shown in text


def test_a_long_curve_keeps_its_middle() -> None:
    shown = Dashboard()
    progress = view().progress
    assert isinstance(progress, Progress)
    for step in range(1, 4001):
        shown.event(replace(progress, step=step, loss=float(step)))
    kept = shown._view.losses
    assert len(kept) <= 1000
    assert [x for x, _ in kept] == [y for _, y in kept]  # means of neighbours
    assert max(second[0] - first[0] for first, second in itertools.pairwise(kept)) <= 16


@pytest.mark.parametrize("width", [60, 80, 120])
def test_an_explanation_is_shown_as_a_whole_or_not_at_all(width: int) -> None:
    shown = view()
    assert isinstance(shown.evaluated, Evaluated)
    shown.dropout, shown.evaluated = True, replace(shown.evaluated, val_loss=3.0)
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    lines = {line[:10].strip(): line[10:].rstrip() for line in capture.get().splitlines()}
    best, loss = "2.01 bits per byte at step 600", "3.250 training   3.000 validation"
    if width >= 80:
        best += " (lower is better; 8 is random bytes)"
        loss += "   dropout makes training higher"
    assert (lines["best"], lines["loss"]) == (best, loss)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, None])
def test_keys_are_unseen_while_the_view_is_redrawn(
    ending: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    @contextlib.contextmanager
    def unseen() -> Iterator[None]:
        told.append("unseen")
        yield
        told.append("seen")

    monkeypatch.setattr("mygpt_cli.ui.dashboard.keys_unseen", unseen)
    started = view().started
    assert started
    with contextlib.suppress(KeyboardInterrupt), Dashboard() as dashboard:
        assert told == []
        dashboard.event(started)
        assert told == ["unseen"]
        if ending:
            raise ending
        dashboard.event(
            Finished(step=1, reason="done", seconds=1.0, best_step=None, best_bits_per_byte=None, refused=0)
        )
        assert told == ["unseen", "seen"]
    assert told == ["unseen", "seen"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_plan_names_what_was_chosen_and_why(width: int, tiny_dataset: Dataset) -> None:
    chosen = plan({"width": 32, "members": 1}, tiny_dataset, lambda config, limit: 1e-4)
    reporter = PlainReporter(explain=True)
    reporter.console = Console(width=width, force_terminal=True, color_system=None)
    with reporter.console.capture() as capture:
        reporter.plan(planned(new_trainer(chosen.config(1234), tiny_dataset), chosen))
    lines = capture.get().splitlines()
    assert all(cell_len(line) <= width for line in lines)
    labels = [line[:10].strip() for line in lines if not line.startswith(" ")]
    assert labels == ["tokens", "model", "training", "chosen"]
    text = " ".join(capture.get().split())
    for shown in (
        "context 256, lr 0.005, schedule linear, warmup 12, decay-fraction 0.6: the default",
        "time 5 m 00 s: the default budget",
        "steps 1,234: as many as fit",
    ):
        assert shown in text
    assert "width 32:" not in text


def test_reasons_are_told_only_when_asked_for(
    tiny_dataset: Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = plan({"width": 32, "members": 1}, tiny_dataset, lambda config, limit: 1e-4)
    PlainReporter().plan(planned(new_trainer(chosen.config(1234), tiny_dataset), chosen))
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["tokens", "model", "training"]


EVALUATED = view().evaluated


def ended(*losses: tuple[float, float], epoch: float = 10.0, reason: str = "done") -> PlainReporter:
    """Return a reporter of a run with these losses, of training and validation, in equal distances."""
    reporter, shown = PlainReporter(), view()
    assert shown.progress
    assert isinstance(shown.evaluated, Evaluated)
    for number, (train, val) in enumerate(losses, 1):
        reporter.event(replace(shown.evaluated, step=10 * number, train_loss=train, val_loss=val))
    reporter.event(replace(shown.progress, epoch=epoch))
    end = Finished(
        step=10 * len(losses), reason=reason, seconds=130.0, best_step=10, best_bits_per_byte=2.339, refused=0
    )
    reporter.event(end)
    return reporter


def test_the_end_has_a_sample_a_verdict_and_the_next_commands(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = ended((3.0, 3.0), (2.0, 2.0))
    text = "half\n\none\ntwo\n three\x1b[31m\nfour\nfive\nsix\n"
    reporter.event(Sampled(step=20, seconds=130.0, text=text))
    reporter.finish(Path("checkpoints/a-001"), "Once")
    out, err = capfd.readouterr()
    assert out == "checkpoints/a-001\n"
    lines = err.splitlines()
    assert "best 2.34 bits per byte at step 10 (lower is better; 8 is random bytes)" in err
    start = next(number for number, line in enumerate(lines) if line.startswith("sample"))
    shown = [line[10:] for line in lines[start : start + 6]]
    assert shown == ["one", "two", " three␛[31m", "four", "five", "still improving: give it more time"]
    assert [line[10:] for line in lines[start + 6 :]] == [
        "mygpt sample checkpoints/a-001 --prompt Once",
        "mygpt train --resume checkpoints/a-001 --time 2m",
        "mygpt inspect checkpoints/a-001",
    ]


def test_the_end_says_how_long_the_command_took_where_training_was_a_small_part_of_it() -> None:
    end = Finished(step=47, reason="done", seconds=5.8, best_step=None, best_bits_per_byte=None, refused=0)
    assert finished_line(end, 15.2) == "47 steps in 5.8 s of training (15 s in all)"
    assert finished_line(end, 6.3) == "47 steps in 5.8 s"
    stopped = replace(end, reason="SIGINT", seconds=100.0)
    assert finished_line(stopped, 8.0) == "47 steps in 1 m 40 s by Ctrl-C, work saved"  # resumed


def test_a_run_that_memorises_is_told_so(capfd: pytest.CaptureFixture[str]) -> None:
    ended((2.0, 2.0), (1.0, 2.5)).finish(Path("a-001"))
    err = capfd.readouterr().err
    assert "verdict   memorising: " in err
    assert "mygpt sample a-001\n" in err
    assert "mygpt inspect a-001 --copied --prompt ''\n" in err
    ended((2.0, 2.0), (1.99, 1.99)).finish(Path("a-001"))
    assert "verdict   good: " in capfd.readouterr().err
    ended((2.0, 2.0), reason="SIGINT").finish(Path("a-001"))
    err = capfd.readouterr().err
    assert "verdict" not in err
    assert "next      mygpt train --resume a-001" in err


def test_why_training_loss_is_above_is_said_once_and_only_with_dropout(
    capfd: pytest.CaptureFixture[str],
) -> None:
    reporter = ended((3.0, 2.0))
    assert "dropout" not in capfd.readouterr().err
    assert isinstance(EVALUATED, Evaluated)
    reporter._dropout = True
    for train in (1.0, 3.0, 4.0):
        reporter.event(replace(EVALUATED, train_loss=train, val_loss=2.0))
    assert capfd.readouterr().err.count("measured with dropout") == 1
    shown = view()
    for dropout in (False, True):
        shown.dropout = dropout
        shown.evaluated = replace(EVALUATED, val_loss=3.0)
        console = Console(width=100, force_terminal=True, color_system=None)
        with console.capture() as capture:
            console.print(shown)
        assert ("dropout makes training higher" in capture.get()) is dropout


def test_samples_are_a_strip_of_single_lines_that_stays() -> None:
    for ended in ("", "done"):
        console = Console(width=80, force_terminal=True, color_system=None)
        shown = view()
        shown.ended = ended
        with console.capture() as capture:
            console.print(shown)
        lines = capture.get().splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("samples"))
        assert [line[10:].split(":")[0] for line in lines[start:]] == ["5.0 s", "10 s", "20 s"]
        assert all("First line ␛[31mnot red<U+202E>↵↵A very" in line for line in lines[start:])


def test_of_many_samples_the_first_and_the_latest_are_shown() -> None:
    shown = view()
    shown.samples = [Sampled(step=k, seconds=5.0 * 2**k, text=f"text {k}") for k in range(12)]
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    assert re.findall(r"text (\d+)", capture.get()) == ["0", "5", "6", "7", "8", "9", "10", "11"]


def test_plain_lines_have_each_sample_with_its_time(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter()
    reporter.event(Sampled(step=20, seconds=10.2, text="\nOne\ntwo\x1b\n"))
    assert capfd.readouterr().err == "sample    10 s: One↵two␛\n"


def test_the_curve_has_its_validations_and_stays_small() -> None:
    shown = view()
    shown.validations = [(200, 4.0), (400, 3.6)]
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    assert capture.get().count("•") == 2
    assert "1,500" in capture.get()


def test_the_end_leaves_no_time_left() -> None:
    ended = view()
    ended.ended = "done"
    assert ended.progress is not None
    ended.progress = replace(ended.progress, step=1500)
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(ended)
    assert "100%" in capture.get()
    assert " left" not in capture.get()


def test_plain_lines_tell_of_long_preparations_and_not_of_short_ones(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    PlainReporter().busy("tokenizing the training text", 0.5)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("mygpt_cli.ui.train.QUIET_SECONDS", -1.0)
    PlainReporter().busy("tokenizing the training text", 0.5)
    assert capfd.readouterr().err.split() == ["tokenizing", "the", "training", "text", "50%"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_resumed_run_shows_what_came_before(tmp_path: Path, mygpt: Command) -> None:
    import pty  # not on Windows

    (tmp_path / "text.txt").write_text("".join(f"{n} and {n}.\n" for n in range(300)), encoding="utf-8")
    tiny = ("--tokenizer", "char", "--layers", 1, "--heads", 1, "--width", 16, "--context", 16, "--quiet")
    often = ("--eval-every", 4, "--log-every", 2)
    made = mygpt("train", "text.txt", *tiny, *often, "--steps", 20, cwd=tmp_path)
    assert made.returncode == 0, made.stderr.decode()
    metrics = tmp_path / "checkpoints/text-001/metrics.jsonl"
    # The best lies well before, and nothing that follows is better.
    events = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    for event in events:
        if event["event"] == "evaluated" and event["step"] == 12:
            event |= {"val_loss": 0.5, "bits_per_byte": 0.75}
    metrics.write_text("".join(f"{json.dumps(event)}\n" for event in events), encoding="utf-8")
    path = metrics.with_name("last") / "training_state.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    state["history"] |= {"best_step": 12, "best_bits_per_byte": 0.75}
    path.write_text(json.dumps(state), encoding="utf-8")
    vouch_for(path.parent)
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
    command = [str(Path(sys.executable).with_name("mygpt")), "train", "--resume", "text-001", "--steps", "21"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | environment
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other side has been closed
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "0.75 bits per byte at step 12" in screen
    curve = [line for line in screen.split("best")[-2].splitlines() if "│" in line or "┤" in line]
    assert sum(line.count("•") for line in curve) >= 4  # validations
    assert (
        sum("\u2800" < char <= "\u28ff" for line in curve for char in line) > 20
    )  # and training before them


def test_corrections_are_told_when_they_are_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    """What differs by a tenth or more from what was told last, the plan at first."""
    reporter = PlainReporter()
    totals = [2000, 1990, 1900, 1800, 1795, 1788, 1500, 1640, 1651]
    for step, (before, steps) in enumerate(itertools.pairwise(totals)):
        reporter.event(Corrected(step=step, steps=steps, before=before, seconds=1.0))
    assert [" ".join(line.split()) for line in capfd.readouterr().err.splitlines()] == [
        "note adjusted to 1,800 steps (from 2,000) to finish on time",
        "note adjusted to 1,500 steps (from 1,800) to finish on time",
        "note adjusted to 1,651 steps (from 1,500) to finish on time",
    ]
    shown = view().progress
    assert shown
    reporter.event(replace(shown, step=1651))
    assert "1651/1651" in capfd.readouterr().err


def test_the_bar_goes_to_the_corrected_end() -> None:
    dashboard = Dashboard()
    dashboard._view = view()
    dashboard.event(Corrected(step=700, steps=1400, before=1500, seconds=61.0))
    assert dashboard._view.started
    assert dashboard._view.started.steps == 1400

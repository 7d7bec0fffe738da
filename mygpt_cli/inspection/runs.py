"""All runs in a folder, each in a line: how far it is, how good, on which text."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from mygpt_cli.base.errors import MygptError
from mygpt_cli.checkpoints.metrics import METRICS, RUN_CONFIG
from mygpt_cli.config.sources import from_file
from mygpt_cli.inspection.history import RunHistory, read_history


@dataclass(frozen=True)
class RunFacts:
    """A run; None where nothing says so.

    `state` is running, done, ended early, stopped, or cut off. `best` is in bits per byte, over the whole
    validation text. `text` has the names of the files as they were given; () is the text that comes with
    Python, and `fine_tuned` what the run began from. `age` is in seconds, since its last event.
    """

    name: str
    folder: str
    state: str
    step: int
    steps: int | None
    best: float | None
    best_step: int | None
    text: tuple[str, ...] | None
    fine_tuned: str | None
    age: float


def list_runs(folder: Path) -> list[RunFacts]:
    """Return the runs in a folder, the one that changed last first; none where there is no such folder."""
    entries, runs = [], []
    with contextlib.suppress(OSError):
        entries = list(folder.iterdir())
    for entry in entries:
        with contextlib.suppress(OSError):  # one that may not be read
            if (entry / RUN_CONFIG).is_file():
                runs.append(_facts(entry))
    return sorted(runs, key=lambda run: (run.age, run.name))


def _facts(folder: Path) -> RunFacts:
    history = read_history(folder)
    try:
        settings = from_file(folder / RUN_CONFIG)
    except MygptError:
        settings = {}
    planned = settings.get("steps")
    text = tuple(settings.get("files", ())) if settings else None
    return RunFacts(
        name=folder.name,
        folder=str(folder),
        state=_state(history),
        step=history.step,
        steps=history.steps if history.steps is not None else planned,
        best=history.best.bits_per_byte if history.best else None,
        best_step=history.best.step if history.best else None,
        text=text,
        fine_tuned=settings.get("init_from"),
        age=max(0.0, time.time() - _changed(folder)),
    )


def _state(history: RunHistory) -> str:
    if history.running:
        return "running"
    if history.reason is None:
        return "cut off"
    return {"done": "done"}.get(
        history.reason, "stopped" if history.reason.startswith("SIG") else "ended early"
    )


def _changed(folder: Path) -> float:
    """Return when something last happened, in seconds of `time.time`."""
    for name in (METRICS, RUN_CONFIG):
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return 0.0

"""A run folder: its lock, its configuration, its metrics, its checkpoints; and training into it."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_type_hints

from mygpt_cli import __version__
from mygpt_cli.base.errors import CheckpointError, ResourceError
from mygpt_cli.base.files import write_whole
from mygpt_cli.base.locking import try_lock
from mygpt_cli.checkpoints import saving
from mygpt_cli.checkpoints.checkpoint import Checkpoint
from mygpt_cli.checkpoints.metrics import (
    LOCK,
    METRICS,
    NO_LINKS,
    RUN_CONFIG,
    Logged,
    events,
)
from mygpt_cli.config.checks import BUDGETS
from mygpt_cli.config.course import Course, as_course
from mygpt_cli.config.knobs import under_present_names
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.sources import to_toml
from mygpt_cli.config.train import TrainConfig, setting_faults
from mygpt_cli.training.events import CheckpointDue, Event, Finished, Noted, Saved
from mygpt_cli.training.history import FORMER_NAMES, History
from mygpt_cli.training.trainer import Trainer

KEPT = "kept"
MOST = 10**15  # of anything that a run counts
OFTEN = ("eval_every", "save_every", "keep_every", "log_every")
CHANGEABLE = {
    *BUDGETS,
    "corrections",
    *OFTEN,
    "patience",
    "tensorboard",
    "device",
    "shard",
    "files",
    "val_file",
    "encoding",
    "out",
}
EARLIER: Settings = {"average": 0.0, "members": 1}  # what runs of earlier versions had that did not say so


class Run:
    """A folder `<out>/<name>-<number>` with `config.toml`, `metrics.jsonl`, `last/`, `best/`, `kept/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unwritten: list[str] = []

    @classmethod
    def create(cls, out: Path, name: str, config: TrainConfig) -> "Run":
        """Make the next free numbered folder; ResourceError when nothing can be written there."""
        try:
            out.mkdir(parents=True, exist_ok=True)
            taken = [_number(entry.name, name) for entry in out.iterdir()]
            number = max(taken, default=0)
            while True:
                number += 1
                folder = out / f"{name}-{number:03d}"
                with contextlib.suppress(FileExistsError):
                    folder.mkdir()
                    break
            run = cls(folder)
            run.configure(config)
        except OSError as error:
            raise ResourceError(
                f"cannot write to {out}: {error.strerror}", "choose another folder with --out"
            ) from None
        return run

    def configure(self, config: TrainConfig) -> None:
        """Write `config.toml`, in one piece or not at all; ResourceError when it cannot be written."""
        _replace(self.folder / RUN_CONFIG, [to_toml(config)])

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; ResourceError when another process has it."""
        try:
            descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o644)
        except OSError as error:
            raise ResourceError(
                f"cannot lock {self.folder}: {error.strerror}", "is the folder writable?"
            ) from None
        try:
            if not try_lock(descriptor):
                raise ResourceError(
                    f"another process is training {self.folder}",
                    "wait for it, or train a new run without --resume",
                )
            yield
        finally:
            os.close(descriptor)

    def save(self, trainer: Trainer, due: CheckpointDue) -> Iterator[Saved]:
        """Write `last/`, and before it `best/` when the model is the best so far, and what is to be kept.

        What is kept comes before the point from which a run is resumed, so that it is never passed over.
        Where it cannot be written, all else is.
        """
        state = {
            "format": 1,
            "mygpt": __version__,
            "step": trainer.history.step,
            "steps": trainer.config.steps,
            "corrections": trainer.config.corrections,
            "tokens": trainer.history.step * trainer.tokens_per_step,
            "text": trainer.dataset.fingerprint,
            "settings": unchangeable(asdict(trainer.config)),
            "history": asdict(trainer.history),
        }
        parts: dict[str, Any] = {
            "model": trainer.delivered(),
            "tokenizer": trainer.dataset.tokenizer,
            "state": state,
        }
        fault = None
        if due.best:
            saving.save(self.folder / "best", **parts)
            yield Saved(step=due.step, folder=self.folder / "best")
        if due.keep:
            folder = self.folder / KEPT / f"{due.step:06d}"
            try:
                saving.save(folder, **parts)
                yield Saved(step=due.step, folder=folder)
            except ResourceError as error:
                fault = error
        saving.save(self.folder / "last", **parts, optimizer=trainer.state())
        yield Saved(step=due.step, folder=self.folder / "last")
        if fault:
            raise fault

    def log(self, event: Logged) -> None:
        """Append an event to `metrics.jsonl`, after those that could not be written before.

        Raises ResourceError when it cannot be written now; the next call tries again.
        """
        self._unwritten.append(json.dumps(as_record(event)) + "\n")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINKS
            descriptor = os.open(self.folder / METRICS, flags, 0o666)
            try:
                _append(descriptor, "".join(self._unwritten).encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ResourceError(
                f"cannot write to {self.folder / METRICS}: {error.strerror}", "free some space and --resume"
            ) from None
        self._unwritten.clear()

    def forget_after(self, step: int) -> None:
        """Drop the metrics and kept checkpoints of steps that a resumed run will take again."""
        path = self.folder / METRICS
        if path.exists():
            remaining = (e for e in events(path) if e["step"] <= step and e["event"] != "finished")
            _replace(path, (f"{json.dumps(event)}\n" for event in remaining))
        checkpoints = self.folder / KEPT
        if checkpoints.is_symlink():
            saving.remove(checkpoints)
        for folder in checkpoints.iterdir() if checkpoints.is_dir() else ():
            if (number := _step_kept(folder)) is not None and number > step:
                saving.remove(folder)

    def kept(self) -> list[Path]:
        """Return the folders of the checkpoints that were kept, by their steps."""
        found = {folder: _step_kept(folder) for folder in self.folder.glob(f"{KEPT}/*")}
        steps = {folder: step for folder, step in found.items() if step is not None and not folder.suffix}
        return sorted(steps, key=lambda folder: steps[folder])


def unchangeable(settings: Mapping[str, Any]) -> Settings:
    """Return the settings that a run keeps to its end.

    In what parts a step takes its sequences is none of them: `batch_size` counts all of these.
    """
    fixed = {n: value for n, value in settings.items() if n not in CHANGEABLE and value is not None}
    fixed["batch_size"] = fixed.get("batch_size", 1) * fixed.pop("accumulation", 1)
    return cast(Settings, fixed)


def settings_of(saved: Checkpoint, otherwise: Settings) -> Settings:
    """Return what `unchangeable` gave when a checkpoint was saved.

    A checkpoint of an earlier version says only what its shape is; the rest is as it is `otherwise`.
    """
    recorded = (saved.state or {}).get("settings")
    if isinstance(recorded, dict):
        recorded = under_present_names(TrainConfig, recorded)
        if not setting_faults(recorded):
            return EARLIER | cast(Settings, recorded)
    model = saved.config
    shape: Settings = {"arch": model.arch, "layers": model.layers, "heads": model.heads, "width": model.width}
    return EARLIER | unchangeable(otherwise) | shape


def course_of(state: dict[str, Any] | None) -> Course:
    """Return the steps that a run was to have when a checkpoint was saved; () where that is not known."""
    names = {"steps", "corrections"} & set(state or {})
    found = {name: as_course((state or {})[name]) for name in names}
    if not found.get("steps") or setting_faults(found):
        return ()
    course: Course = found.get("corrections") or ((0, found["steps"]),)
    return course


def unwritten(course: Course, kept: Settings) -> Settings:
    """Return the steps and corrections of a checkpoint whose run was cut off before they were written down.

    `kept` is what was written: an earlier part of the same course. Nothing is returned for another one.
    """
    known = kept.get("corrections") or ((0, kept["steps"]),)
    earlier = len(known) < len(course) and course[: len(known)] == known
    return {"steps": course[-1][1], "corrections": course} if earlier else {}


def as_record(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it: paths are texts, and what is not a finite number is null."""
    record: dict[str, Any] = {"event": type(event).__name__.lower()}
    for name, value in asdict(event).items():
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        record[name] = str(value) if isinstance(value, Path) else value
    return record


def _replace(path: Path, text: Iterable[str]) -> None:
    """Write a file in one piece or not at all; ResourceError when it cannot be written."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise ResourceError(f"cannot write to {path}: {error.strerror}", "free some space") from None


def _append(descriptor: int, text: bytes) -> None:
    """Write all of it; what a full disk took of it is taken back."""
    size = os.fstat(descriptor).st_size
    try:
        while text:
            text = text[os.write(descriptor, text) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)
        raise


def run_of(folder: Path) -> Path | None:
    """Return the run that a folder is, or that a checkpoint's folder belongs to; None for anything else."""
    run = folder.parent if folder.name in ("last", "best") else folder
    run = folder.parent.parent if folder.parent.name == KEPT else run
    return run if (run / RUN_CONFIG).is_file() else None


def _step_kept(folder: Path) -> int | None:
    """Return the step of a kept checkpoint's folder, or of what a cut-off save left of it."""
    return int(folder.stem) if folder.stem.isdecimal() else None


def _number(folder: str, name: str) -> int:
    head, _, tail = folder.rpartition("-")
    return int(tail) if head == name and tail.isdecimal() else 0


def history_of(state: dict[str, Any] | None) -> History:
    """Read back the trainer's history from a checkpoint's state; CheckpointError when it is not one."""
    unknown = CheckpointError("the checkpoint does not say how far its training was", "train a new run")
    try:
        recorded: dict[str, Any] = dict((state or {})["history"])
        recorded.setdefault("stage_best", recorded["best_bits_per_byte"])  # there was only one model
        history = History(**{FORMER_NAMES.get(name, name): value for name, value in recorded.items()})
    except (KeyError, TypeError, ValueError):
        raise unknown from None
    for name, kind in get_type_hints(History).items():
        value = getattr(history, name)
        kind = kind | int if isinstance(value, int) and kind not in (int, bool) else kind
        wrong_truth = isinstance(value, bool) is not (kind is bool)
        if not isinstance(value, kind) or wrong_truth or not 0 <= (value or 0) <= MOST:
            raise unknown
    settings = (state or {}).get("settings")
    members = settings.get("members", 1) if isinstance(settings, dict) else 1
    if history.stage_first > history.step or not isinstance(members, int) or history.stage >= members:
        raise unknown
    return history


def train(
    run: Run,
    trainer: Trainer,
    stop: Callable[[], str | None] = lambda: None,
    between: Callable[[], Iterable[Event]] = lambda: (),
) -> Iterator[Event]:
    """Train into a run folder that this process has locked: save when due, log, and pass the events on.

    `stop` and `between` are asked after each step, as `Trainer.run` says.
    While the disk fails training goes on, and says so; ResourceError when its end could not be saved.
    """
    config, history = trainer.config, trainer.history
    best = history.best_step, history.best_bits_per_byte
    logged = True
    for event in trainer.run(stop, between):
        if isinstance(event, CheckpointDue):
            saved: list[Saved] = []
            try:
                for folder in run.save(trainer, event):
                    saved.append(folder)
                    yield folder
                if trainer.config is not config:  # other steps, or smaller micro-batches
                    run.configure(trainer.config)
                    config = trainer.config
            except ResourceError as error:
                written = {folder.folder.name for folder in saved}
                # The next one that is better than the one on disk is the best.
                if event.best and "best" not in written:
                    history.best_step, history.best_bits_per_byte = best
                if event.last and "last" not in written:
                    raise
                yield Noted(step=event.step, text=f"{error.message}; training goes on, and saves again later")
            best = history.best_step, history.best_bits_per_byte
            continue
        if isinstance(event, Logged):
            try:
                run.log(event)
                logged = True
            except ResourceError as error:
                if isinstance(event, Finished):
                    raise
                if logged:
                    yield Noted(step=event.step, text=f"{error.message}; training goes on")
                logged = False
        yield event

"""Which checkpoint a path means: a folder, one of a run, or a snapshot; or why there is none."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from mygpt_cli.base.errors import CheckpointError, did_you_mean
from mygpt_cli.checkpoints.hub import CONFIG, newest_snapshot
from mygpt_cli.checkpoints.layout import MANIFEST, WEIGHTS, beside, is_complete, verify
from mygpt_cli.text.document import is_text

NAMED = 5  # of the runs there are, where the one that was asked for is not


class TextInsteadError(CheckpointError):
    """A file with a text in place of a checkpoint."""


def locate(path: Path, prefer: Iterable[str]) -> tuple[Path, list[str]]:
    """Find the checkpoint folder that a path means and verify it; also return what there is to tell."""
    if (path / "snapshots").is_dir() and not (path / CONFIG).is_file():
        snapshot = newest_snapshot(path)
        verify(snapshot)
        return snapshot, [f"using {snapshot}"]
    for folder in (path, beside(path, "new"), beside(path, "old")):
        if (folder / CONFIG).is_file() and (folder == path or is_complete(folder)):
            _verify_or_offer(folder)
            return folder, [] if folder == path else [f"{path} was being replaced; using {folder}"]
    notes: list[str] = []
    damage: CheckpointError | None = None
    for name in prefer:
        for folder in (path / name, beside(path / name, "new"), beside(path / name, "old")):
            if not folder.is_dir():
                continue
            try:
                verify(folder)
            except CheckpointError as error:
                damage = damage or error
                notes.append(f"{error.message}; trying another")
                continue
            if (folder / CONFIG).is_file():
                if notes:
                    notes.append(f"using {folder}")
                return folder, notes
    if damage:
        others = [path / name for name in ("last", "best") if is_complete(path / name)]
        if others:  # whole, and not what was asked for: it has no optimizer to resume with
            train_on = f"mygpt train FILE --init-from {quote(str(others[0]))}"
            damage.hint = f"{others[0]} is intact: `{train_on}` trains on from it"
        raise damage
    raise _not_found(path)


def _verify_or_offer(folder: Path) -> None:
    """Verify a folder that was asked for by itself; what is raised offers the run's other checkpoint."""
    try:
        verify(folder)
    except CheckpointError as error:
        for name in ("last", "best"):
            other = folder.parent / name
            if folder.name in ("last", "best") and other != folder and is_complete(other):
                raise CheckpointError(error.message, f"{other} is intact: use that one") from None
        raise


def _not_found(path: Path) -> CheckpointError:
    if not path.exists():
        try:
            siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
        except OSError:
            siblings = []
        newest = ", ".join(run.name for run in _runs(path.parent)[:NAMED])
        return CheckpointError(
            f"there is no checkpoint at {path}{did_you_mean(path.name, siblings)}",
            f"the newest runs there: {newest}" if newest else "train one with `mygpt train FILE`",
        )
    if path.is_file() and path.name in (CONFIG, WEIGHTS):
        return CheckpointError(f"{path} is not a folder", f"a checkpoint is a folder: give {path.parent}")
    if is_text(path):
        learn = f"`mygpt train {quote(str(path))}` trains a model on it"
        return TextInsteadError(f"{path} is a text, not a checkpoint", learn)
    if not path.is_dir():
        return CheckpointError(f"{path} is not a folder", "a checkpoint is a folder with a config.json")
    hint = "a checkpoint folder has a config.json, a run folder has last/ or best/"
    if kept := _newest_kept(path):
        hint = f"use the newest that was kept: {kept}"
    return CheckpointError(f"{path} holds no checkpoint", hint)


def _newest_kept(run: Path) -> Path | None:
    """Return the last of the whole checkpoints that a run has kept."""
    kept = [folder for folder in run.glob("kept/*") if folder.name.isdecimal()]
    newest_first = sorted(kept, key=lambda folder: int(folder.name), reverse=True)
    return next(filter(is_complete, newest_first), None)


def newest_run(out: Path) -> Path:
    """Return the run changed last in a folder of runs; CheckpointError when it holds none."""
    if not (runs := _runs(out)):
        raise CheckpointError(f"there is no trained model in {out} yet", "train one with `mygpt train FILE`")
    return runs[0]


def _runs(out: Path) -> list[Path]:
    """Return the runs with a checkpoint in a folder, the one changed last first.

    Runs that hold only kept checkpoints come after all others.
    """
    runs, folders = [], []
    with contextlib.suppress(OSError):
        folders = list(out.iterdir())
    for folder in folders:
        with contextlib.suppress(OSError):  # one that may not be read, or is just being saved
            marks = [mark for name in ("last", "best") if (mark := folder / name / MANIFEST).is_file()]
            times = [mark.stat().st_mtime for mark in marks or folder.glob(f"kept/*/{MANIFEST}")]
            if times:
                runs.append((bool(marks), max(times), folder))
    return [folder for *_, folder in sorted(runs, reverse=True)]

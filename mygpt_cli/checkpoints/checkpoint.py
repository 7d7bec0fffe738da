"""A checkpoint is one folder that transformers opens too: save, verify, load.

Saving never leaves a moment without a complete checkpoint: everything is written and synced beside the old
folder, `manifest.json` last, and only then do the two change places.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mygpt_cli.base.devices import available_memory
from mygpt_cli.base.errors import CheckpointError, ResourceError, did_you_mean
from mygpt_cli.base.strict_json import read_json
from mygpt_cli.checkpoints import hf
from mygpt_cli.checkpoints.hub import CONFIG, GENERATION, SMALL, newest_snapshot, read_ids
from mygpt_cli.checkpoints.memory import keep_whole
from mygpt_cli.checkpoints.tensor_files import Entry, StoredTensors, check_floats, read_header, read_index
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT
from mygpt_cli.text.document import is_text
from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.tokenizer import Tokenizer

MANIFEST = "manifest.json"
STATE = "training_state.json"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
OPTIMIZER = "optimizer.safetensors"
NAMED = 5  # of the runs there are, where the one that was asked for is not
RETRIES = 10  # while training replaces what is being read


class TextInsteadError(CheckpointError):
    """A file with a text in place of a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to use, and where it came from.

    `state` is what mygpt's training recorded, None for a folder from elsewhere. `notes` tell the user what
    was not as it should be, such as a damaged folder that another one stood in for.
    """

    folder: Path
    model: GPT
    tokenizer: Tokenizer
    config: ModelConfig
    state: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def save(
    folder: Path,
    *,
    model: GPT,
    tokenizer: Tokenizer,
    state: Mapping[str, Any],
    optimizer: Mapping[str, Tensor] | None = None,
) -> None:
    """Replace the checkpoint in this folder; ResourceError, with the old one intact, when the disk fails."""
    new, old = _beside(folder, "new"), _beside(folder, "old")
    try:
        settle(folder)
        remove(new)
        new.mkdir(parents=True)
        _write_files(new, model, tokenizer, state, optimizer)
        remove(old)  # left over from a save that was cut off at its end
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        _sync(folder.parent)
        remove(old)
    except (OSError, SafetensorError) as error:
        remove(new)
        with contextlib.suppress(OSError):  # a reader finds the old one where it is, too
            settle(folder)
        raise ResourceError(
            f"cannot save to {folder}: {getattr(error, 'strerror', None) or error}",
            "free some space, or choose another folder with --out; the checkpoint saved before is intact",
        ) from None


def settle(folder: Path) -> None:
    """Finish a save that was cut off between its two renames: the newest complete folder takes its place."""
    new, old = _beside(folder, "new"), _beside(folder, "old")
    if not folder.exists():
        for candidate in (new, old):
            if _is_complete(candidate):
                candidate.rename(folder)
                break


def remove(folder: Path) -> None:
    """Remove a folder, or a link in its place but not what it leads to, as far as the disk allows."""
    if folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f"{folder.name}.{suffix}")


def _write_files(
    folder: Path,
    model: GPT,
    tokenizer: Tokenizer,
    state: Mapping[str, Any],
    optimizer: Mapping[str, Tensor] | None,
) -> None:
    begin, ends = tokenizer.begin, tokenizer.ends
    documents = {
        CONFIG: json.dumps(hf.to_config(model.config, begin, ends), indent=2).encode(),
        GENERATION: json.dumps(hf.special_ids(begin, ends), indent=2).encode(),
        STATE: json.dumps(state, indent=2, allow_nan=False).encode(),
    }
    for name, data in (documents | tokenizer.files()).items():
        (folder / name).write_bytes(data)
    save_file(hf.to_tensors(model), folder / WEIGHTS, metadata={"format": "pt"})
    if optimizer is not None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in optimizer.items()}
        save_file(tensors, folder / OPTIMIZER)
    written = sorted(folder.iterdir())
    for path in folder.glob("*.safetensors"):
        shutil.copymode(folder / CONFIG, path)  # the library makes them private
    files = {path.name: {"size": path.stat().st_size, "sha256": _sha256(path)} for path in written}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": 1, "files": files}, indent=2), encoding="utf-8")
    for path in (*written, manifest, folder):
        _sync(path)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the system lets us ask."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path) -> None:
    """Compare every file with the manifest; CheckpointError names the first that differs, or is a link out.

    A folder from elsewhere has no manifest and passes.
    """
    _check_links(folder)
    if not (folder / MANIFEST).exists():
        if (folder / STATE).exists():
            raise _unusable(f"{folder} is incomplete: its {MANIFEST} is missing")
        return
    manifest = read_json(folder / MANIFEST, SMALL)
    files = manifest.get("files")
    known = manifest.keys() == {"format", "files"} and manifest["format"] == 1
    if not known or not isinstance(files, dict) or CONFIG not in files or not files.keys() & {WEIGHTS, INDEX}:
        raise _unusable(f"{folder / MANIFEST} is damaged")
    for name, entry in files.items():
        path = folder / name
        if Path(name).name != name or not isinstance(entry, dict) or entry.keys() != {"size", "sha256"}:
            raise _unusable(f"{folder / MANIFEST} is damaged")
        try:
            if not path.is_file():
                raise _unusable(f"{path} is missing")
            whole = path.stat().st_size == entry["size"] and _sha256(path) == entry["sha256"]
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}", "try again") from None
        if not whole:
            raise _unusable(f"{path} is damaged: it differs from what was saved")


def _unusable(message: str) -> CheckpointError:
    return CheckpointError(message, "use another checkpoint of this run")


def _check_links(folder: Path) -> None:
    """Raise CheckpointError for a link that leads anywhere but to Hugging Face's cache around the folder."""
    blobs = folder.resolve().parent.parent / "blobs"
    try:
        links = [path for path in folder.iterdir() if path.is_symlink()]
        outside = [path for path in links if path.resolve().parent != blobs]
    except (OSError, RuntimeError) as error:  # links in a circle
        raise CheckpointError(f"cannot read {folder}: {error}", "try again") from None
    if outside:
        raise CheckpointError(
            f"{outside[0]} is a link out of the checkpoint", "put a copy of what it leads to in its place"
        )


def _is_complete(folder: Path) -> bool:
    try:
        verify(folder)
    except CheckpointError:
        return False
    return (folder / CONFIG).is_file()


def load(
    path: str | Path,
    *,
    prefer: Iterable[str] = ("best", "last"),
    is_mapped: Callable[[ModelConfig, int], bool] = keep_whole,
) -> Checkpoint:
    """Open a checkpoint folder, a Hugging Face folder, or the preferred checkpoint of a run folder.

    `is_mapped` says of a model and the bytes of memory that are free whether its matrices are left in the
    file (see `hf.attach`), before any memory is taken; it may raise ResourceError. Raises CheckpointError
    when there is no checkpoint, or none that is whole.
    """
    path, prefer = Path(path), tuple(prefer)
    for _ in range(RETRIES):
        seen = _saved_at(path)
        try:
            return _load(path, prefer, is_mapped)
        except CheckpointError:
            if _saved_at(path) == seen and not _is_being_saved(path):
                raise
            time.sleep(0.02)
    return _load(path, prefer, is_mapped)


def _saved_at(path: Path) -> list[tuple[Path, int]]:
    """Return when each checkpoint at this path was written, to notice one that is being replaced."""
    times = []
    beside = (path, _beside(path, "new"), _beside(path, "old"))
    for manifest in (*(folder / MANIFEST for folder in beside), *_found(path, f"*/{MANIFEST}")):
        with contextlib.suppress(OSError):
            times.append((manifest, manifest.stat().st_mtime_ns))
    return times


def _is_being_saved(path: Path) -> bool:
    return _beside(path, "new").exists() or bool(_found(path, "*.new"))


def _found(path: Path, pattern: str) -> list[Path]:
    """Return what matches; nothing when the folder is taken away meanwhile."""
    try:
        return list(path.glob(pattern))
    except OSError:
        return []


def _load(path: Path, prefer: Iterable[str], is_mapped: Callable[[ModelConfig, int], bool]) -> Checkpoint:
    folder, notes = locate(path, prefer)
    raw = read_json(folder / CONFIG, SMALL)
    config = hf.from_config(raw)
    weights = _check_weights(folder, config)
    mapped = is_mapped(config, available_memory())
    tokenizer = load_tokenizer(folder, ids=read_ids(folder, raw, config.vocab_size), carry=True)
    state = read_json(folder / STATE, SMALL) if (folder / STATE).exists() else None
    model = _load_model(config, weights, mapped=mapped)
    notes += [f"{folder}: {note}" for note in hf.notes(config)]
    if config.tied and not model.config.tied:
        notes.append(
            f"{folder}: {CONFIG} ties the head to the embedding, but the weights hold a different head;"
            " it is used, as in transformers"
        )
    return Checkpoint(folder, model, tokenizer, model.config, state, tuple(notes))


def locate(path: Path, prefer: Iterable[str]) -> tuple[Path, list[str]]:
    """Find the checkpoint folder that a path means and verify it; also return what there is to tell."""
    if (path / "snapshots").is_dir() and not (path / CONFIG).is_file():
        snapshot = newest_snapshot(path)
        verify(snapshot)
        return snapshot, [f"using {snapshot}"]
    for folder in (path, _beside(path, "new"), _beside(path, "old")):
        if (folder / CONFIG).is_file() and (folder == path or _is_complete(folder)):
            _verify_or_offer(folder)
            return folder, [] if folder == path else [f"{path} was being replaced; using {folder}"]
    notes: list[str] = []
    damage: CheckpointError | None = None
    for name in prefer:
        for folder in (path / name, _beside(path / name, "new"), _beside(path / name, "old")):
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
        others = [path / name for name in ("last", "best") if _is_complete(path / name)]
        if others:  # whole, and not what was asked for: it has no optimizer to resume with
            damage.hint = f"{others[0]} is intact: `mygpt train --init-from {others[0]}` trains on from it"
        raise damage
    raise _not_found(path)


def _verify_or_offer(folder: Path) -> None:
    """Verify a folder that was asked for by itself; what is raised offers the run's other checkpoint."""
    try:
        verify(folder)
    except CheckpointError as error:
        for name in ("last", "best"):
            other = folder.parent / name
            if folder.name in ("last", "best") and other != folder and _is_complete(other):
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
    return CheckpointError(
        f"{path} holds no checkpoint",
        "a checkpoint folder has a config.json, a run folder has last/ or best/",
    )


def _check_weights(folder: Path, config: ModelConfig) -> dict[str, Entry]:
    """Compare the headers of the weights with the configuration; return where each of our tensors is."""
    path = folder / WEIGHTS
    if path.is_file():
        header = read_header(path)
    elif (folder / INDEX).is_file():
        header = read_index(folder / INDEX)
    else:
        hint = "the folder is not complete"
        if list(folder.glob("*.bin")):
            hint = (
                "pickled weights are not opened: `save_pretrained(..., safe_serialization=True)` saves others"
            )
        raise CheckpointError(f"{path} is missing", hint)
    weights = {new: header[old] for new, old in hf.canonical_names(list(header), config).items()}
    hf.check_shapes(config, {name: entry.shape for name, entry in weights.items()})
    check_floats(weights.values())
    return weights


def _load_model(config: ModelConfig, weights: Mapping[str, Entry], *, mapped: bool) -> GPT:
    """Fill a new model from files whose headers were checked."""
    tensors = StoredTensors(weights)
    model = GPT(hf.settle(config, tensors))
    (hf.attach if mapped else hf.fill)(model, tensors)
    for name, parameter in model.named_parameters():
        if not torch.stack(parameter.aminmax()).isfinite().all():  # without another tensor of that size
            raise _unusable(f"{next(iter(weights.values())).path.parent}: {name} is not finite")
    return model


def load_optimizer(folder: Path) -> dict[str, Tensor]:
    """Read the optimizer's state; CheckpointError when the folder has none that can be read."""
    path = folder / OPTIMIZER
    try:
        header = read_header(path)
        check_floats(header.values())
        return dict(StoredTensors(header))
    except CheckpointError as error:
        raise CheckpointError(error.message, "training cannot be resumed from here") from None


def newest_run(out: Path) -> Path:
    """Return the run changed last in a folder of runs; CheckpointError when it holds none."""
    if not (runs := _runs(out)):
        raise CheckpointError(f"there is no trained model in {out} yet", "train one with `mygpt train FILE`")
    return runs[0]


def _runs(out: Path) -> list[Path]:
    """Return the runs with a checkpoint in a folder, the one changed last first."""
    runs = []
    with contextlib.suppress(OSError):
        for folder in out.iterdir():
            marks = [folder / name / MANIFEST for name in ("last", "best")]
            times = [mark.stat().st_mtime for mark in marks if mark.is_file()]
            if times:
                runs.append((max(times), folder))
    return [folder for _, folder in sorted(runs, reverse=True)]


def frozen(model: GPT, dtype: torch.dtype = torch.float32) -> GPT:
    """Make a model ready for generation: no gradients, computing in this type."""
    model.requires_grad_(False)
    model.compute_dtype = dtype
    return model

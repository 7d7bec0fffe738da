"""Saving a checkpoint never leaves a moment without a complete one.

Everything is written and synced beside the old folder, `manifest.json` last, and only then do the two change
places.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mygpt_cli.base.errors import ResourceError
from mygpt_cli.checkpoints import hf
from mygpt_cli.checkpoints.hub import CONFIG, GENERATION
from mygpt_cli.checkpoints.layout import (
    INDEX,
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    beside,
    is_complete,
    sha256,
)
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.tokenizer import Tokenizer

LARGEST_FILE = 5_000_000_000  # bytes of weights in one file; more are several, named as transformers does


def save(
    folder: Path,
    *,
    model: GPT,
    tokenizer: Tokenizer,
    state: Mapping[str, Any],
    optimizer: Mapping[str, Tensor] | None = None,
    largest_file: int = LARGEST_FILE,
) -> None:
    """Replace the checkpoint in this folder; ResourceError, with the old one intact, when the disk fails.

    Weights of more than `largest_file` bytes are written in several files.
    """
    new, old = beside(folder, "new"), beside(folder, "old")
    try:
        settle(folder)
        remove(new)
        new.mkdir(parents=True)
        _write_files(new, model, tokenizer, state, optimizer, largest_file)
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
        intact = "; the checkpoint saved before is intact" if (folder / CONFIG).is_file() else ""
        raise ResourceError(
            f"cannot save to {folder}: {getattr(error, 'strerror', None) or error}",
            f"free some space, or choose another folder with --out{intact}",
        ) from None


def settle(folder: Path) -> None:
    """Finish a save that was cut off between its two renames: the newest complete folder takes its place."""
    new, old = beside(folder, "new"), beside(folder, "old")
    if not folder.exists():
        for candidate in (new, old):
            if is_complete(candidate):
                candidate.rename(folder)
                break


def remove(folder: Path) -> None:
    """Remove a folder, or a link in its place but not what it leads to, as far as the disk allows."""
    if folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _write_files(
    folder: Path,
    model: GPT,
    tokenizer: Tokenizer,
    state: Mapping[str, Any],
    optimizer: Mapping[str, Tensor] | None,
    largest_file: int,
) -> None:
    begin, ends = tokenizer.begin, tokenizer.ends
    documents = {
        CONFIG: json.dumps(hf.to_config(model.config, begin, ends), indent=2).encode(),
        GENERATION: json.dumps(hf.special_ids(begin, ends), indent=2).encode(),
        STATE: json.dumps(state, indent=2, allow_nan=False).encode(),
    }
    for name, data in (documents | tokenizer.files()).items():
        (folder / name).write_bytes(data)
    _write_weights(folder, hf.to_tensors(model), largest_file)
    if optimizer is not None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in optimizer.items()}
        save_file(tensors, folder / OPTIMIZER)
    written = sorted(folder.iterdir())
    for path in folder.glob("*.safetensors"):
        shutil.copymode(folder / CONFIG, path)  # the library makes them private
    files = {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in written}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": 1, "files": files}, indent=2), encoding="utf-8")
    for path in (*written, manifest, folder):
        _sync(path)


def _write_weights(folder: Path, tensors: Mapping[str, Tensor], largest: int) -> None:
    """Write tensors into one file, or into several and an index of them; a single tensor is never cut."""
    files: list[dict[str, Tensor]] = [{}]
    for name, tensor in tensors.items():
        if files[-1] and sum(map(_size, [*files[-1].values(), tensor])) > largest:
            files.append({})
        files[-1][name] = tensor
    names = [WEIGHTS]
    if len(files) > 1:
        stem, suffix = WEIGHTS.split(".")
        names = [f"{stem}-{number:05d}-of-{len(files):05d}.{suffix}" for number in range(1, len(files) + 1)]
        index = {
            "metadata": {"total_size": sum(map(_size, tensors.values()))},
            "weight_map": {name: file for file, part in zip(names, files, strict=True) for name in part},
        }
        (folder / INDEX).write_bytes(json.dumps(index, indent=2).encode())
    for file, part in zip(names, files, strict=True):
        save_file(part, folder / file, metadata={"format": "pt"})


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.itemsize


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the system lets us ask."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

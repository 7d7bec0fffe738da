"""A checkpoint, which is one folder that transformers opens too: loading it."""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mygpt_cli.base.devices import available_memory
from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.strict_json import read_json
from mygpt_cli.checkpoints import hf
from mygpt_cli.checkpoints.finding import locate
from mygpt_cli.checkpoints.hub import CONFIG, SMALL, read_ids
from mygpt_cli.checkpoints.layout import INDEX, MANIFEST, OPTIMIZER, STATE, WEIGHTS, beside, unusable
from mygpt_cli.checkpoints.memory import keep_whole
from mygpt_cli.checkpoints.tensor_files import Entry, StoredTensors, check_floats, read_header, read_index
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.tokenizer import Tokenizer

RETRIES = 10  # while training replaces what is being read


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
    folders = (path, beside(path, "new"), beside(path, "old"))
    for manifest in (*(folder / MANIFEST for folder in folders), *_found(path, f"*/{MANIFEST}")):
        with contextlib.suppress(OSError):
            times.append((manifest, manifest.stat().st_mtime_ns))
    return times


def _is_being_saved(path: Path) -> bool:
    return beside(path, "new").exists() or bool(_found(path, "*.new"))


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


def _check_weights(folder: Path, config: ModelConfig) -> dict[str, Entry]:
    """Compare the headers of the weights with the configuration; return where each of our tensors is."""
    path = folder / WEIGHTS
    if path.is_file():
        header = read_header(path)
    elif (folder / INDEX).is_file():
        header = read_index(folder / INDEX)
    else:
        hint = "the folder is not complete; copy the file from where the model came from"
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
            raise unusable(f"{next(iter(weights.values())).path.parent}: {name} is not finite")
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


def frozen(model: GPT, dtype: torch.dtype = torch.float32) -> GPT:
    """Make a model ready for generation: no gradients, computing in this type."""
    model.requires_grad_(False)
    model.compute_dtype = dtype
    return model

"""JSON from files that cannot be trusted: bounded in size, without duplicate keys."""

import json
import os
from pathlib import Path
from typing import Any

from mygpt_cli.errors import CheckpointError

LIMIT = 64 * 1024 * 1024


def read_json(path: Path, limit: int = LIMIT) -> dict[str, Any]:
    """Read a JSON object; CheckpointError when the file is missing, too large, or anything else."""
    try:
        with path.open("rb") as file:
            large = os.fstat(file.fileno()).st_size > limit
            raw = b"" if large else file.read()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}", "the checkpoint is not complete"
        ) from None
    if large:
        raise CheckpointError(f"{path} is larger than {limit // 2**20} MiB")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}", "the checkpoint is damaged") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key appears twice")
    return value

"""JSON from files that cannot be trusted: bounded in size, without duplicate keys, all numbers finite."""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from mygpt_cli.errors import CheckpointError

LIMIT = 64 * 1024 * 1024


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read an ordinary file; CheckpointError when it is missing, too large, or a pipe or device."""
    try:
        # Opening a pipe would otherwise wait for someone who writes.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            ordinary, large = stat.S_ISREG(status.st_mode), status.st_size > limit
            raw = file.read(limit) if ordinary and not large else b""
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}", "the checkpoint is not complete"
        ) from None
    if not ordinary:
        raise CheckpointError(f"{path} is not an ordinary file", "the checkpoint is damaged")
    if large:
        raise CheckpointError(f"{path} is larger than {limit // 2**20} MiB")
    return raw


def read_json(path: Path, limit: int = LIMIT) -> dict[str, Any]:
    """Read a JSON object; CheckpointError when the file is missing, too large, or anything else."""
    return parse_json(read_bytes(path, limit), str(path))


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """Return the JSON object in these bytes; CheckpointError, with their name, for anything else."""
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not valid JSON: {error}", "the checkpoint is damaged") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} must hold a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key appears twice")
    return value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("a number is not finite")
    return value

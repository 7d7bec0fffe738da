"""JSON from files that cannot be trusted: bounded in memory, without duplicate keys, all numbers finite."""

import errno
import json
import math
import os
import stat
import sys
from pathlib import Path
from typing import Any, BinaryIO

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.files import check_fetched

LIMIT = 24 * 2**20  # bytes of a file; the largest tokenizer.json of use has some 15 million
MEMORY = 200_000_000  # bytes that its text and its values may take
# At most so many of them for each mark; an entry of an object passes through a list of pairs.
COSTS = {b",": 70, b":": 200, b"[": 100, b"{": 100}


def open_ordinary(path: Path) -> BinaryIO:
    """Open a file for reading bytes; OSError when it cannot be, or is a pipe or a device."""
    # Opening a pipe would otherwise wait for someone who writes.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not an ordinary file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read an ordinary file; CheckpointError when it is missing, too large, or a pipe or device."""
    try:
        with open_ordinary(path) as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror}", "the checkpoint is not complete"
        ) from None
    if len(raw) > limit:
        raise CheckpointError(f"{path} is larger than {limit / 2**20:.0f} MiB")
    return raw


def read_json(path: Path, limit: int = LIMIT) -> dict[str, Any]:
    """Read a JSON object; CheckpointError when the file is missing, too large, or anything else."""
    raw = read_bytes(path, limit)
    check_fetched(path, raw)
    return parse_json(raw, str(path))


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """Return the JSON object in these bytes; CheckpointError, with their name, for anything else."""
    try:
        text = raw.decode("utf-8")
        # An empty list is two bytes in a file, and thirty times as many in memory.
        if sys.getsizeof(text) + sum(cost * raw.count(mark) for mark, cost in COSTS.items()) > MEMORY:
            raise ValueError("it holds more values than a checkpoint can")
        value = json.loads(
            text,
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

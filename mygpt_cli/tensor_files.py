"""safetensors files that cannot be trusted: the whole header is checked before any memory is taken.

The format: https://huggingface.co/docs/safetensors, eight bytes with the length of a JSON header, the header,
the numbers of each tensor one after another without gaps.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mygpt_cli.errors import CheckpointError
from mygpt_cli.strict_json import parse_json

LIMIT = 8 * 1024 * 1024  # bytes of a header: some 50,000 tensors
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = ("F64", "F32", "F16", "BF16")
METADATA = "__metadata__"


@dataclass(frozen=True)
class Entry:
    """What the header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, Entry]:
    """Return what a file says that it holds; CheckpointError unless it holds exactly that."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing", "the folder is not complete")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(LIMIT, size - 8):
                raise _damaged(path, f"its header cannot be {length:,} bytes long")
            raw = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", "try again") from None
    header = parse_json(raw, f"the header of {path}")
    header.pop(METADATA, None)
    entries, ranges = {}, []
    for name, told in header.items():
        entries[name], offsets = _entry(path, name, told)
        ranges.append(offsets)
    end = 0
    for first, last in sorted(ranges):
        if first != end:
            raise _damaged(path, "its tensors overlap or leave gaps")
        end = last
    if end != size - 8 - length:
        raise _damaged(path, f"its tensors take {end:,} bytes and {size - 8 - length:,} are there")
    return entries


def _entry(path: Path, name: str, told: Any) -> tuple[Entry, tuple[int, int]]:
    """Return one tensor's entry and the range of its bytes."""
    if not isinstance(told, dict) or told.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"'{name}' has no dtype, shape and data_offsets")
    dtype, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise _damaged(path, f"'{name}' is of a type that mygpt does not know")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2 or len(shape) > 8:
        raise _damaged(path, f"'{name}' has no shape, or none that can be")
    if offsets[1] - offsets[0] != math.prod(shape) * SIZES[dtype]:
        raise _damaged(path, f"'{name}' has another length than its shape")
    return Entry(dtype, tuple(shape)), (offsets[0], offsets[1])


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**60 for n in value)


def check_floats(path: Path, entries: Mapping[str, Entry], names: Iterable[str]) -> None:
    """Raise CheckpointError unless all of these tensors are floating-point numbers."""
    for name in names:
        if entries[name].dtype not in FLOATS:
            raise CheckpointError(f"{path}: '{name}' holds {entries[name].dtype}, not floating-point numbers")


def read_tensors(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Read some tensors of a file whose header was checked."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: {what}", "copy it again from where it came from")

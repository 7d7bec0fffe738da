"""safetensors files that cannot be trusted: all headers are checked before any memory is taken.

The format: https://huggingface.co/docs/safetensors, eight bytes with the length of a JSON header, the header,
the numbers of each tensor one after another without gaps. Where weights lie in several files, the
`weight_map` of an index names the file of each tensor.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.files import check_fetched
from mygpt_cli.base.strict_json import parse_json, read_json

LIMIT = 8 * 1024 * 1024  # bytes of all headers, and of an index: some 50,000 tensors
MOST_FILES = 1000
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = ("F64", "F32", "F16", "BF16")
METADATA = "__metadata__"
# Nothing outside the folder, and nothing that a file system takes for something else.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors")


@dataclass(frozen=True)
class Entry:
    """What a header says of one tensor, and of which file it is the header."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, Entry]:
    """Return what a file says that it holds; CheckpointError unless it holds exactly that."""
    return _entries(path, *_raw_header(path, LIMIT))


def read_index(path: Path) -> dict[str, Entry]:
    """Return what the files of an index hold; CheckpointError unless that is exactly what the index says."""
    files: dict[str, set[str]] = {}
    weight_map = read_json(path, LIMIT).get("weight_map")
    if not isinstance(weight_map, dict):
        raise _damaged(path, "it has no 'weight_map'")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not PLAIN_NAME.fullmatch(file):
            raise _damaged(path, f"the file of '{name:.100}' has no plain name that ends in .safetensors")
        files.setdefault(file, set()).add(name)
    if len(files) > MOST_FILES:
        raise _damaged(path, f"it names more than {MOST_FILES:,} files")
    entries: dict[str, Entry] = {}
    left = LIMIT
    for file, names in sorted(files.items()):
        raw, size = _raw_header(path.with_name(file), left)
        left -= len(raw)
        found = _entries(path.with_name(file), raw, size)
        if wrong := sorted(found.keys() ^ names):
            holds = f"{file} lacks" if wrong[0] in names else f"{file} also has"
            raise _damaged(path, f"{holds} '{wrong[0]:.100}'")
        entries |= found
    return entries


def _raw_header(path: Path, limit: int) -> tuple[bytes, int]:
    """Return the header of a file, and how many bytes should come after it."""
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing", "the folder is not complete; copy the file from where the model came from"
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            check_fetched(path, length.to_bytes(8, "little") + file.peek(32))
            if not 2 <= length <= min(limit, size - 8):
                raise _damaged(path, f"its header cannot be {length:,} bytes long")
            return file.read(length), size - 8 - length
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", "try again") from None


def _entries(path: Path, raw: bytes, size: int) -> dict[str, Entry]:
    """Return the entries of a header after which so many bytes come."""
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
    if end != size:
        raise _damaged(path, f"its tensors take {end:,} bytes and {size:,} are there")
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
    return Entry(path, name, dtype, tuple(shape)), (offsets[0], offsets[1])


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**60 for n in value)


def check_floats(entries: Iterable[Entry]) -> None:
    """Raise CheckpointError unless all of these tensors are floating-point numbers."""
    for entry in entries:
        if entry.dtype not in FLOATS:
            raise CheckpointError(
                f"{entry.path}: '{entry.name}' holds {entry.dtype}, not floating-point numbers"
            )


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of files whose headers were checked, by any names; each is read when it is looked at."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries
        self._open: dict[Path, Any] = {}

    def __getitem__(self, name: str) -> Tensor:
        entry = self._entries[name]
        try:
            if entry.path not in self._open:
                self._open[entry.path] = safe_open(entry.path, framework="pt")
            tensor: Tensor = self._open[entry.path].get_tensor(entry.name)
        except (SafetensorError, OSError) as error:
            raise _damaged(entry.path, str(error)) from None
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: {what}", "copy it again from where it came from")

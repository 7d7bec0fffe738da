"""Files that are written whole or not at all, and those that were never fetched."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mygpt_cli.base.errors import CheckpointError

LFS_POINTER = b"version https://git-lfs"  # how a file begins that Git has in place of a large one


def check_fetched(path: Path, beginning: bytes) -> None:
    """Raise CheckpointError for a file that begins as Git LFS leaves it until it fetches the real one."""
    if beginning.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path} is only a pointer of Git LFS to the real file",
            f"`git lfs pull` in {path.parent} fetches it",
        )


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path beside a file; what is written there takes the file's place in the end.

    It is on the disk before it does. Whatever ends the writing early leaves the file as it was; raises
    OSError when the disk does.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # of a process that was cut off, or a link
    try:
        yield new
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def write_whole(path: Path, text: Iterable[str]) -> None:
    """Replace a file by this text, in UTF-8; raises OSError, with the file as it was, when that fails."""
    with replaced(path) as new, new.open("x", encoding="utf-8", newline="\n") as file:
        file.writelines(text)

"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


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

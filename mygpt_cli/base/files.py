"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, text: Iterable[str]) -> None:
    """Replace a file by this text, in UTF-8; raises OSError, with the file as it was, when that fails.

    The text is on the disk before it takes the place of what was there.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        new.unlink(missing_ok=True)  # of a process that was cut off, or a link
        with new.open("x", encoding="utf-8", newline="\n") as file:
            file.writelines(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise

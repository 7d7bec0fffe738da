"""Files that one process at a time can lock; the system releases them however the process ends."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PAUSE = 0.02  # seconds between two looks at a lock that another process has
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of file systems that have none


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file for this process, or return False when another process has it.

    A shared lock is refused only where another process has one that is not. On a file system without locks
    nobody can have one, and all go on.
    """
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True


@contextlib.contextmanager
def waited_lock(path: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Hold the lock file at `path`, made for this and removed afterwards, once no other process has it.

    `waiting` is called at every look in vain. Raises OSError when the file cannot be made.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not try_lock(descriptor):
                waiting()
                time.sleep(PAUSE)
            # Whoever had it has removed it: what is locked now may no longer be what others will open.
            elif _is_at(descriptor, path):
                try:
                    yield
                finally:
                    # Windows does not remove an open file, and leaving it there does no harm.
                    with contextlib.suppress(OSError):
                        path.unlink()
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

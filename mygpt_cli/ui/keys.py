"""The keys that are pressed while a view is redrawn in place."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def keys_unseen() -> Iterator[None]:
    """Let the terminal show nothing of what is typed meanwhile; Ctrl-C works as always.

    What is typed is left to whatever reads the terminal next. Nothing changes where stdin is no terminal.
    """
    if sys.platform == "win32" or sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    import termios

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    unseen = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    try:
        _configure(terminal, unseen)
        yield
    finally:
        _configure(terminal, before)


def _configure(terminal: int, attributes: list[Any]) -> None:
    """Change how a terminal behaves, unless it has gone, or belongs to another process at the moment.

    A process in the background would be stopped for trying.
    """
    import termios

    with contextlib.suppress(OSError, termios.error):
        if os.tcgetpgrp(terminal) == os.getpgrp():
            termios.tcsetattr(terminal, termios.TCSANOW, attributes)

"""Keys: those pressed while a view is redrawn in place, and those that lead from one screen to the next."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

# Names of the keys that are no character; a terminal sends arrows in one of two ways.
NAMES = {
    **dict.fromkeys(("", "\r", "\n"), "enter"),
    **dict.fromkeys(("\x08", "\x7f"), "backspace"),
    **dict.fromkeys(("\x1b[C", "\x1bOC"), "right"),
    **dict.fromkeys(("\x1b[D", "\x1bOD"), "left"),
    "\x04": "end",  # Ctrl-D, as where lines are typed
}
WINDOWS_NAMES = {"M": "right", "K": "left"}  # after a sign of its own
ONE_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|.", re.DOTALL)


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


@contextlib.contextmanager
def single_keys() -> Iterator[Callable[[], str]]:
    """Let each key count when it is pressed, unseen; yield a function that waits for the next one.

    It returns a character, or a name of NAMES. Ctrl-C works as always. Where the keys cannot be had one by
    one, as in the background or where stdin is no terminal, a line counts as the key that it begins with.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        yield _line
    elif sys.platform == "win32":
        import msvcrt

        yield lambda: windows_key(msvcrt.getwch)
    else:
        import termios

        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        control = [*before[6]]
        control[termios.VMIN], control[termios.VTIME] = 1, 0
        single = [*before[:3], before[3] & ~(termios.ECHO | termios.ICANON), *before[4:6], control]
        waiting: list[str] = []

        def key() -> str:
            if not waiting:
                _configure(terminal, single)  # again each time: the shell sets it anew after Ctrl-Z
                typed = os.read(terminal, 1024).decode(errors="replace")
                if not typed:  # the terminal has gone
                    return "end"
                lines = termios.tcgetattr(terminal)[3] & termios.ICANON
                waiting.extend([_of_line(typed)] if lines else map(_named, ONE_KEY.findall(typed)))
            return waiting.pop(0)

        try:
            _configure(terminal, single)  # before the first key may be pressed
            yield key
        finally:
            _configure(terminal, before)


def _line() -> str:
    return _of_line(sys.stdin.readline() if sys.stdin else "")


def _of_line(line: str) -> str:
    """Return the key that a line stands for; without even an end of line, the input has ended."""
    return _named(line.strip()[:1].lower()) if line else "end"


def _named(key: str) -> str:
    return NAMES.get(key, key)


def windows_key(read: Callable[[], str]) -> str:
    """Return the next key of the console of Windows, which tells of Ctrl-C as of any other key."""
    key = read()
    if key == "\x03":
        raise KeyboardInterrupt
    return WINDOWS_NAMES.get(read(), "other") if key in "\x00\xe0" else _named(key)


def _configure(terminal: int, attributes: list[Any]) -> None:
    """Change how a terminal behaves, unless it has gone, or belongs to another process at the moment.

    A process in the background would be stopped for trying.
    """
    import termios

    with contextlib.suppress(OSError, termios.error):
        if os.tcgetpgrp(terminal) == os.getpgrp():
            termios.tcsetattr(terminal, termios.TCSANOW, attributes)

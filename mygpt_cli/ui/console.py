"""Consoles for stdout and stderr, and the plain sentences of the conversation.

Colour needs a terminal, and respects NO_COLOR and TERM=dumb. Elsewhere than on a terminal, lines are 80
columns wide, or COLUMNS.
"""

import contextlib
import errno
import io
import os
import shutil
import sys
from typing import IO, TYPE_CHECKING, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from mygpt_cli.ui.text import safe

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PLAIN_WIDTH = 80


class _Terminal(io.FileIO):
    """A terminal that may be closed while the program goes on: what is written to it then is lost."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, or pretend to once nobody can read it any more."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return memoryview(data).nbytes


def prepare_streams() -> None:
    """Let stdout and stderr show as codes what they cannot encode, and outlive a terminal that is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        if stream.isatty() and os.name != "nt":
            lasting = io.BufferedWriter(_Terminal(stream.fileno(), "wb", closefd=False))
            setattr(sys, name, io.TextIOWrapper(lasting, stream.encoding, stream.errors, line_buffering=True))


def stdout_console() -> Console:
    """Return a console for the product."""
    return console_for(sys.stdout)


def stderr_console() -> Console:
    """Return a console for the conversation."""
    return console_for(sys.stderr)


class CalmConsole(Console):
    """A console that falls silent when its reader has gone, instead of ending the program."""

    def on_broken_pipe(self) -> None:
        """Go on without writing."""
        self.quiet = True
        silence(self.file)


def silence(file: IO[str]) -> None:
    """Send what is still to be written nowhere, and keep Python from complaining about it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def console_for(file: TextIO | None) -> Console:
    """Return a console that never takes data for markup, links or emoji codes."""
    nowhere = file is None  # closed by the caller: rich would turn to stdout
    target = io.StringIO() if file is None else file
    console = CalmConsole(file=target, markup=False, emoji=False, highlight=False, quiet=nowhere)
    if console.is_dumb_terminal:  # whose size rich does not ask for
        console.width, console.height = shutil.get_terminal_size()
    elif not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = PLAIN_WIDTH
    return console


def show(console: Console, renderable: RenderableType) -> None:
    """Print at once; where nobody watches, without the blanks that fill a terminal's lines."""
    if console.is_terminal:
        console.print(renderable)
        return
    with console.capture() as capture:
        console.print(renderable)
    lines = capture.get().splitlines()
    console.file.write("".join(f"{line.rstrip()}\n" for line in lines))
    console.file.flush()


def note(message: str) -> None:
    """Tell the user something in passing, on stderr."""
    console = stderr_console()
    console.print(Text(f"note: {safe(message)}", style="dim"), soft_wrap=not console.is_terminal)

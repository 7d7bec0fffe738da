"""Errors and the version, as a person or a script reads them."""

import re
import sys

import typer

from mygpt_cli import __version__
from mygpt_cli.ui.console import stderr_console
from mygpt_cli.ui.text import safe

LONGEST = 4000  # characters of a message: what a file quotes of itself may be longer than any screen


def print_error(message: str, hint: str = "") -> None:
    """Write `error: …` and `hint: …` to stderr."""
    from rich.text import Text

    console = stderr_console()
    for label, style, text in (("error", "bold red", message), ("hint", "bold cyan", hint)):
        if text:
            line = Text.assemble((f"{label}: ", style), _shown(text))
            console.print(line, soft_wrap=not console.is_terminal)


def _shown(text: str) -> str:
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}…"
    # A name from outside may hold a line end: what follows must not look like a line of ours.
    return re.sub(r"\n(?!  - )", "\n    ", safe(text))


def print_version(wanted: bool) -> None:
    """Write the version to stdout and exit, when wanted."""
    if wanted:
        sys.stdout.write(f"mygpt {__version__}\n")
        raise typer.Exit

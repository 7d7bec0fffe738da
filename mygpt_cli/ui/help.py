"""Help on the screen: usage, examples, and flags by what they are for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.console import show, stdout_console

WIDEST = 100
NARROW = 80  # below that, what an example does stands above it
LONGEST_NAME = 26  # of a flag and its value; what is longer has its text below it


class Example(NamedTuple):
    """A command that can be typed as it is, and what it does."""

    command: str
    does: str


@dataclass(frozen=True)
class Section:
    """Flags or commands with one purpose, each with its text."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HelpPage:
    """All that `--help` says of a command; `closing` has lines that follow the flags."""

    usage: str
    about: Sequence[str]
    examples: Sequence[Example]
    sections: Sequence[Section]
    closing: Sequence[str] = ()


def show_help(page: HelpPage) -> None:
    """Write a page of help to stdout."""
    console = stdout_console()
    show(console, render_help(page, min(console.width, WIDEST)))


def render_help(page: HelpPage, width: int) -> RenderableType:
    """Render a page of help for a screen of `width` cells, 40 or more."""
    parts: list[RenderableType] = [Text.assemble(("Usage: ", "bold"), page.usage), Text()]
    for text in page.about:
        parts += [Text(text), Text()]
    if page.examples:
        parts += [Text("Examples", style="bold"), *_examples(page.examples, width), Text()]
    names = [name for section in page.sections for name, _ in section.rows]
    column = max((len(name) for name in names if len(name) <= LONGEST_NAME), default=0)
    for section in page.sections:
        parts.append(Text(section.title, style="bold"))
        for name, text in section.rows:
            parts += _row(name, text, column, width)
        parts.append(Text())
    parts += [Text(text, style="dim") for text in page.closing]
    screen = Table.grid()
    screen.add_column(width=width)
    screen.add_row(Group(*parts))
    return screen


def _examples(examples: Sequence[Example], width: int) -> list[RenderableType]:
    longest = max(len(example.command) for example in examples)
    beside = width >= NARROW and all(longest + len(example.does) + 6 <= width for example in examples)
    lines: list[RenderableType] = []
    for command, does in examples:
        if beside:
            lines.append(Text.assemble(f"  {command:<{longest}}  ", (f"# {does}", "dim")))
        else:
            lines += [Padding(Text(f"# {does}", style="dim"), (0, 0, 0, 2))]
            lines += [Padding(Text(command), (0, 0, 0, 2))]
    return lines


def _row(name: str, text: str, column: int, width: int) -> list[RenderableType]:
    """Lay out a flag and its text side by side, or one below the other where the flag is long."""
    grid = Table.grid(padding=0)
    grid.add_column(width=column + 4)
    grid.add_column(width=width - column - 4)
    label = Text(f"  {name}", style="cyan")
    if len(name) > column:
        grid.add_row("", text)
        return [label, grid]
    grid.add_row(label, text)
    return [grid]

"""A table that explains itself, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

INDENT = 4


@dataclass(frozen=True)
class Explained:
    """A table whose rows take a line each, with a sentence under every one."""

    table: Table
    sentences: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.table, options, pad=False)
        before = len(lines) - len(self.sentences)
        for number, line in enumerate(lines):
            yield from line
            yield Segment.line()
            if number >= before:
                yield Padding(Text(self.sentences[number - before], style="dim italic"), (0, 0, 0, INDENT))


def explained(table: Table, sentences: Sequence[str], *, explain: bool) -> RenderableType:
    """Return the table, with its sentences where they are wanted."""
    return Explained(table, sentences) if explain else table

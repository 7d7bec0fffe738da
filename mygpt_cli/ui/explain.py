"""A table with a plain sentence under each of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.columns import NARROWEST, WIDEST

INDENT = 4


@dataclass(frozen=True)
class Explained:
    """A table of rows of one line each; the sentences come under its first rows, and none where empty."""

    table: Table
    sentences: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.table, options, pad=False)
        first = len(lines) - self.table.row_count
        width = min(max(self.table.width or WIDEST, NARROWEST), options.max_width)
        for at, line in enumerate(lines, -first):
            yield from line
            yield Segment.line()
            if 0 <= at < len(self.sentences) and self.sentences[at]:
                sentence = Padding(Text(self.sentences[at], style="dim"), (0, 0, 0, INDENT))
                yield from console.render(sentence, options.update(width=width))


def explained(table: Table, sentences: Sequence[str], *, explain: bool) -> RenderableType:
    """Return the table, with its sentences where they are wanted."""
    return Explained(table, sentences) if explain else table

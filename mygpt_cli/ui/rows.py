"""Tables whose rows can each be followed by a sentence; they keep their shape at every width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.padding import Padding
from rich.text import Text

from mygpt_cli.ui.bar import draw_bar
from mygpt_cli.ui.columns import NARROWEST, WIDEST
from mygpt_cli.ui.text import one_line, tail

GAP = 2
INDENT = 4
STROKES = " ▁▂▃▄▅▆▇█"
ASCII_STROKES = " .:-=+*%#"

Drawn = Callable[[int, bool], str | Text]  # from a width in cells, and whether only ASCII can be shown
Cell = str | Text | Drawn


@dataclass(frozen=True)
class Column:
    """A column of so many cells, 0 for what the others leave; its title may have several lines."""

    title: str | Text
    width: int
    right: bool = False
    style: str = ""


@dataclass(frozen=True)
class Row:
    """The cells of a row, already made safe, and a sentence that explains them; one cell alone spans all."""

    cells: Sequence[Cell]
    sentence: str = ""
    style: str = ""


@dataclass(frozen=True)
class Rows:
    """A table of `width` cells; what does not fit into its column is cut off with `…`."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    width: int
    explain: bool = False
    gap: int = GAP
    header: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = options.ascii_only
        if self.header:
            titles = [_lines(column.title) for column in self.columns]
            for at in range(max(map(len, titles))):
                cells = [lines[at] if at < len(lines) else "" for lines in titles]
                yield self._line(self.columns, cells, "dim", ascii_only)
            yield Text(("-" if ascii_only else "─") * self.width, style="dim", no_wrap=True)
        for row in self.rows:
            columns = [Column("", self.width)] if len(row.cells) == 1 else self.columns
            yield self._line(columns, row.cells, row.style, ascii_only)
            if self.explain and row.sentence:
                sentence = Text(row.sentence, style="dim italic", overflow="fold")
                width = min(max(self.width, NARROWEST), options.max_width)
                yield from console.render(Padding(sentence, (0, 0, 0, INDENT)), options.update(width=width))

    def _line(self, columns: Sequence[Column], cells: Sequence[Cell], style: str, ascii_only: bool) -> Text:
        fixed = sum(column.width for column in columns) + self.gap * (len(columns) - 1)
        line = Text(style=style, no_wrap=True, overflow="crop", end="\n")
        for number, (column, cell) in enumerate(zip(columns, cells, strict=True)):
            width = column.width or max(4, self.width - fixed)
            if callable(cell):
                cell = cell(width, ascii_only)
            text = Text("", style=column.style).append_text(cell if isinstance(cell, Text) else Text(cell))
            text.truncate(width, overflow="ellipsis")
            blank = " " * (width - text.cell_len)
            line.append(" " * self.gap if number else "")
            line.append_text(Text.assemble(blank, text) if column.right else Text.assemble(text, blank))
        line.rstrip()
        return line


def _lines(title: str | Text) -> list[Text]:
    return list((title if isinstance(title, Text) else Text(title)).split("\n", allow_blank=True))


def heading(name: str, text: bytes, width: int) -> Text:
    """Return the name of a view, and the end of the text that it looks at."""
    line = Text(f"{name}  ", style="bold")
    shown = tail(one_line(text.decode("utf-8", "surrogateescape")), width - line.cell_len)
    return line.append(shown or "(no text yet)", style="not bold")


def closing(words: str) -> RenderableType:
    """Return the plain sentences that a view ends with."""
    return Constrain(Text(words, style="dim"), WIDEST)


def bar(fraction: float, style: str = "cyan") -> Drawn:
    """Return a cell with a bar over a fraction, 0 to 1."""
    return lambda width, ascii_only: Text(draw_bar(fraction, width, ascii_only=ascii_only), style=style)


def histogram(counts: Sequence[int]) -> Drawn:
    """Return a cell with a small histogram, a sign for each bin; what is not empty never looks so."""

    def draw(width: int, ascii_only: bool) -> str:
        signs = ASCII_STROKES if ascii_only else STROKES
        highest = max([*counts, 1])
        heights = (max(bool(n), round(n / highest * (len(signs) - 1))) for n in counts)
        each = max(1, width // len(counts))
        return "".join(signs[height] * each for height in heights)

    return draw

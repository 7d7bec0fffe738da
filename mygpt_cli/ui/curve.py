"""Curves and signs drawn with characters: braille where the screen can show it, ASCII elsewhere."""

from collections.abc import Iterable

from rich.text import Text

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # column, row from the top
_STROKES = " '-'.|.|"  # by the sum of 1, 2 and 4 for a dot at the top, in the middle and at the bottom


class Canvas:
    """Cells of dots: two by four to a character in braille, one by three in ASCII.

    Places are shares of the canvas: x from 0 (left) to 1, y from 0 (bottom) to 1. What lies outside is not
    drawn; a line leaves through the edge.
    """

    def __init__(self, width: int, height: int, *, ascii_only: bool = False) -> None:
        self.width, self.height, self.ascii_only = width, height, ascii_only
        self._across, self._down = (1, 3) if ascii_only else (2, 4)
        self._dots = [[0] * width for _ in range(height)]
        self._styles = [[""] * width for _ in range(height)]
        self._signs: dict[tuple[int, int], str] = {}

    def line(self, points: Iterable[tuple[float, float]], style: str = "") -> None:
        """Draw a line through points from left to right."""
        columns, rows = self.width * self._across, self.height * self._down
        before: tuple[int, int] | None = None
        for x, y in points:
            # Far outside is as good as just outside, and cheaper to walk to.
            now = round(x * (columns - 1)), round((1 - min(2.0, max(-1.0, y))) * (rows - 1))
            for column, row in _between(before or now, now):
                if 0 <= column < columns and 0 <= row < rows:
                    self._dot(column, row, style)
            before = now

    def sign(self, x: float, y: float, sign: str, style: str = "") -> None:
        """Put a character on the cell at a place."""
        if 0 <= x <= 1 and 0 <= y <= 1:
            cell = round((1 - y) * (self.height - 1)), round(x * (self.width - 1))
            self._signs[cell] = sign
            self._styles[cell[0]][cell[1]] = style

    def lines(self) -> list[Text]:
        """Return what was drawn, `height` lines of `width` cells."""
        return [
            Text.assemble(*((self._cell(row, column), style) for column, style in enumerate(styles)))
            for row, styles in enumerate(self._styles)
        ]

    def _dot(self, column: int, row: int, style: str) -> None:
        x, y = column // self._across, row // self._down
        down = row % self._down
        self._dots[y][x] |= 1 << down if self.ascii_only else _DOTS[column % 2][down]
        if (y, x) not in self._signs:
            self._styles[y][x] = style

    def _cell(self, row: int, column: int) -> str:
        dots = self._dots[row][column]
        if sign := self._signs.get((row, column)):
            return sign
        if self.ascii_only:
            return _STROKES[dots]
        return chr(0x2800 + dots) if dots else " "


def _between(start: tuple[int, int], end: tuple[int, int]) -> Iterable[tuple[int, int]]:
    """Yield the dots of a straight line, without its start unless that is also its end."""
    (x0, y0), (x1, y1) = start, end
    steps = max(abs(x1 - x0), abs(y1 - y0))
    if not steps:
        yield end
    for i in range(1, steps + 1):
        yield x0 + round((x1 - x0) * i / steps), y0 + round((y1 - y0) * i / steps)

"""Curves drawn in braille dots, two by four to a character."""

import itertools
from collections.abc import Sequence

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # column, row from the top


def draw_curve(values: Sequence[float], width: int, height: int) -> list[str]:
    """Return `height` lines of `width` characters: the values from left to right, the largest at the top.

    More values than columns are averaged, fewer leave the right side empty, so that a curve grows in place
    only when the caller says how many there will be by padding `width`.
    """
    columns, rows = 2 * width, 4 * height
    if not values:
        return [" " * width] * height
    points = _resample(values, columns) if len(values) > columns else list(values)
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    grid = [[0] * width for _ in range(height)]
    previous = None
    for x, value in enumerate(points):
        y = round((high - value) / span * (rows - 1))
        # Join neighbours, so that a steep fall stays a line.
        first, last = (y, y) if previous is None else (min(y, previous), max(y, previous))
        for row in range(first if first == y else first + 1, last + 1 if last == y else last):
            grid[row // 4][x // 2] |= _DOTS[x % 2][row % 4]
        previous = y
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in line) for line in grid]


def _resample(values: Sequence[float], columns: int) -> list[float]:
    edges = [round(i * len(values) / columns) for i in range(columns + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]

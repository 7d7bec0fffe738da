"""Line charts: what is plotted, and how it looks on a screen (`svg.py` makes a picture of the same)."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from mygpt_cli.ui.curve import Canvas

Point = tuple[float, float]

BRAILLE = {"line": "⠒⠒", "points": "•", "best": "◆"}
ASCII = {"line": "--", "points": "o", "best": "@"}


@dataclass(frozen=True)
class Line:
    """Points from left to right, under a name.

    `points` are values few enough to be shown one by one; `faint` is what a line was smoothed from, and is
    only in pictures; `best` is a single point that stands out. The colour is one of the eight of a terminal.
    """

    name: str
    points: Sequence[Point]
    colour: str = "cyan"
    kind: Literal["line", "points", "faint", "best"] = "line"


@dataclass(frozen=True)
class Panel:
    """One y axis from `low` to `high`, and the lines over it.

    `right` names another unit and how much of it makes one of the axis's own. `height` is in lines of text.
    """

    label: str
    lines: Sequence[Line]
    low: float
    high: float
    right: tuple[str, float] | None = None
    height: int = 12


@dataclass(frozen=True)
class Chart:
    """Panels under each other over the same x axis, which begins at 0. A rich renderable."""

    title: str
    x_label: str
    x_high: float
    panels: Sequence[Panel]
    legend: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from draw(self, options.max_width, ascii_only=options.ascii_only)


def draw(chart: Chart, width: int, *, ascii_only: bool = False) -> list[Text]:
    """Return a chart as lines of text, none of them wider than `width` cells (40 or more)."""
    left = 1 + max(len(label) for panel in chart.panels for _, label in _ticks(panel))
    right = max((1 + len(label) for panel in chart.panels for _, label in _right_ticks(panel)), default=0)
    inside = max(8, width - left - right - 2)
    frame = "|+++-" if ascii_only else "│┤├┴─"
    lines = []
    for panel in chart.panels:
        title = panel.label
        if panel.right:
            title = f"{panel.label}{panel.right[0].rjust(width - len(panel.label))}"
        lines += [Text(title[:width], "dim")] if title else []
        lines += _draw_panel(chart, panel, left, inside, right, frame, ascii_only)
    lines += _draw_x_axis(chart, left, inside, right, frame)
    return lines + (_draw_legend(chart, width, ASCII if ascii_only else BRAILLE) if chart.legend else [])


def _draw_panel(
    chart: Chart, panel: Panel, left: int, inside: int, right: int, frame: str, ascii_only: bool
) -> list[Text]:
    canvas = Canvas(inside, panel.height, ascii_only=ascii_only)
    signs = ASCII if ascii_only else BRAILLE
    for line in panel.lines:
        places = [(x / chart.x_high, position(y, panel)) for x, y in line.points]
        if line.kind == "line":
            canvas.line(thin(places, 2 * inside), line.colour)
        elif line.kind != "faint":
            style = f"bold {line.colour}" if line.kind == "best" else line.colour
            for x, y in places:
                canvas.sign(x, y, signs[line.kind], style)
    ticks = {_row(value, panel): label for value, label in _ticks(panel)}
    other = {_row(value, panel): label for value, label in _right_ticks(panel)}
    rows = []
    for row, drawn in enumerate(canvas.lines()):
        axis = frame[1] if row in ticks else frame[0]
        text = Text.assemble((f"{ticks.get(row, ''):>{left - 1}} {axis}", "dim"), drawn)
        if panel.right:
            text.append(f"{frame[2]} {other[row]}" if row in other else frame[0], "dim")
        rows.append(text)
    return rows


def _draw_x_axis(chart: Chart, left: int, inside: int, right: int, frame: str) -> list[Text]:
    longest = len(tick_label(chart.x_high, chart.x_high))
    ticks, step = round_ticks(0, chart.x_high, max(1, inside // (longest + 4)))
    axis, labels = [frame[4]] * inside, ""
    end = left + 1 + inside + right - len(chart.x_label)
    for tick in ticks:
        place = round(tick / chart.x_high * (inside - 1))
        label = tick_label(tick, step)
        start = left + 1 + place - (len(label) - 1) // 2
        axis[place] = frame[3]
        if start + len(label) < end:
            labels = labels.ljust(start) + label
    corner = "+" if frame[0] == "|" else "└"
    return [
        Text(f"{' ' * left}{corner}{''.join(axis)}", "dim"),
        Text(f"{labels.ljust(end)}{chart.x_label}", "dim"),
    ]


def _draw_legend(chart: Chart, width: int, signs: dict[str, str]) -> list[Text]:
    rows = [Text()]
    for panel in chart.panels:
        for line in panel.lines:
            if not line.name or line.kind == "faint":
                continue
            entry = Text.assemble((signs[line.kind], line.colour), f" {line.name}")
            if rows[-1].cell_len and rows[-1].cell_len + 3 + entry.cell_len > width:
                rows.append(Text())
            rows[-1].append_text(Text.assemble("   " if rows[-1].cell_len else "", entry))
    for row in rows:
        row.truncate(width, overflow="ellipsis")
    return rows


def _ticks(panel: Panel) -> list[tuple[float, str]]:
    values, step = round_ticks(panel.low, panel.high, ticks_for(panel.height))
    return [(value, tick_label(value, step)) for value in values]


def _right_ticks(panel: Panel) -> list[tuple[float, str]]:
    """Return round values of the other unit, each with its value in the axis's own."""
    if panel.right is None:
        return []
    unit = panel.right[1]
    values, step = round_ticks(panel.low * unit, panel.high * unit, ticks_for(panel.height))
    return [(value / unit, tick_label(value, step)) for value in values]


def _row(value: float, panel: Panel) -> int:
    return round((1 - position(value, panel)) * (panel.height - 1))


def ticks_for(height: int) -> int:
    """Return how many ticks an axis has room for that is as high as so many lines of text."""
    return (height + 1) // 2


def position(value: float, panel: Panel) -> float:
    """Return where a value lies between the panel's low (0) and high (1) ends."""
    return (value - panel.low) / (panel.high - panel.low)


def round_ticks(low: float, high: float, most: int) -> tuple[list[float], float]:
    """Return round values from low to high, and the step between them: about `most`, at least two."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step * most >= (high - low) * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if first >= last:
        return round_ticks(low, high, most + 1)
    return [i * step for i in range(first, last + 1)], step


def tick_label(value: float, step: float) -> str:
    """Write a tick with as many decimals as its step needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > 4 or abs(value) >= 1e9:
        return f"{value:.6g}".replace("e-0", "e-").replace("e+0", "e+") if value else "0"
    return f"{value:,.{decimals}f}" if value else "0"


def value_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows all values, with a little room around them."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = 0.04 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` points: the means of neighbours where there are more."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    groups = [points[a:b] for a, b in itertools.pairwise(edges)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups
    ]

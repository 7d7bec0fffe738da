"""Pictures in SVG, written as text: charts, and what a screen shows. No script, no font, no reference.

Colours are those of a terminal by name, as variables that follow the reader's light or dark scheme.
"""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.segment import Segment

from mygpt_cli.ui.chart import Chart, Line, Panel, Point, position, round_ticks, thin, tick_label, ticks_for
from mygpt_cli.ui.markup import SCHEME, escape, style_of

PADDING = 12
WIDTH, LEFT, RIGHT = 760, 64, 64
PER_LINE = 22  # height of a panel for each line of text it has on a screen
GAP = 44  # between panels, with the name of the lower one
MOST_POINTS = 1000
CELL, LINE_HEIGHT = 8.4, 19  # of a monospaced letter of 14 px

CHART_STYLE = """
.chart { font: 13px system-ui, sans-serif; }
.chart text { fill: var(--dim); }
.chart .name { fill: var(--ink); }
.chart .page { fill: var(--page); }
.chart .grid { stroke: var(--grid); }
.chart .axis { stroke: var(--dim); }
.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .faint { fill: none; stroke-width: 1; opacity: .3; }
"""


def chart_svg(chart: Chart, *, inline: bool = False) -> str:
    """Return a chart as an SVG document, or as an element for a page whose style has SCHEME."""
    legend, top = _legend(chart)
    body, y = list(legend), top + 26
    for number, panel in enumerate(chart.panels):
        height = panel.height * PER_LINE
        body += _panel(chart, panel, y, height, last=number == len(chart.panels) - 1)
        y += height + GAP
    label = f'<text x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{y - 6}" text-anchor="middle">'
    body.append(f"{label}{escape(chart.x_label)}</text>")
    return _document("chart", chart.title, CHART_STYLE, WIDTH, y + 6, body, inline=inline)


def screen_svg(title: str, lines: Sequence[Sequence[Segment]], width: int) -> str:
    """Return lines of a screen that is `width` cells wide as an SVG document."""
    body = []
    for number, line in enumerate(lines, start=1):
        column = 0
        for segment in line:
            text = segment.text.strip()
            start = column + cell_len(segment.text) - cell_len(segment.text.lstrip())
            column += cell_len(segment.text)
            if text:
                place = f'x="{start * CELL:.1f}" y="{number * LINE_HEIGHT}"'
                length = f'textLength="{cell_len(text) * CELL:.1f}" lengthAdjust="spacingAndGlyphs"'
                body.append(f"<text {place} {length}{style_of(segment.style)}>{escape(text)}</text>")
    size = width * CELL, len(lines) * LINE_HEIGHT
    return _document("screen", title, "", *size, body, inline=False)


def _document(
    kind: str, title: str, style: str, width: float, height: float, body: Iterable[str], *, inline: bool
) -> str:
    namespace = "" if inline else ' xmlns="http://www.w3.org/2000/svg"'
    place = f'x="{-PADDING}" y="{-PADDING}"'
    width, height = width + 2 * PADDING, height + 2 * PADDING
    size = f'viewBox="{-PADDING} {-PADDING} {width:g} {height:g}"'
    size += "" if inline else f' width="{width:g}" height="{height:g}"'
    return "\n".join(
        [
            f'<svg{namespace} class="{kind}" role="img" {size}>',
            f"<title>{escape(title)}</title>",
            *([] if inline else [f"<style>{SCHEME}{style}</style>"]),
            *([] if inline else [f'<rect class="page" {place} width="100%" height="100%"/>']),
            *body,
            "</svg>\n",
        ]
    )


def _panel(chart: Chart, panel: Panel, top: float, height: float, *, last: bool) -> list[str]:
    bottom, right = top + height, WIDTH - RIGHT

    def place(point: Point) -> Point:
        y = bottom - min(2.0, max(-1.0, position(point[1], panel))) * height
        return LEFT + point[0] / chart.x_high * (right - LEFT), y

    parts = [f'<text class="name" x="0" y="{top - 10}">{escape(panel.label)}</text>']
    values, step = round_ticks(panel.low, panel.high, ticks_for(panel.height))
    for value in values:
        y = place((0, value))[1]
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(_label(LEFT - 8, y + 4, "end", tick_label(value, step)))
    if panel.right:
        name, unit = panel.right
        parts.append(f'<text class="name" x="{WIDTH}" y="{top - 10}" text-anchor="end">{escape(name)}</text>')
        values, step = round_ticks(panel.low * unit, panel.high * unit, ticks_for(panel.height))
        for value in values:
            y = place((0, value / unit))[1]
            parts.append(f'<path class="axis" d="M{right} {y:.1f}h5"/>')
            parts.append(_label(right + 9, y + 4, "start", tick_label(value, step)))
        parts.append(f'<path class="axis" d="M{right} {top}V{bottom}"/>')
    values, step = round_ticks(0, chart.x_high, 8)
    for value in values:
        x = place((value, panel.low))[0]
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v5"/>')
        parts += [_label(x, bottom + 20, "middle", tick_label(value, step))] if last else []
    parts.append(f'<path class="axis" d="M{LEFT} {top}V{bottom}H{right}" fill="none"/>')
    # A picture within the picture cuts off what leaves the panel, with room for a dot on its edge.
    x, y, width, tall = LEFT - 6, top - 6, right - LEFT + 12, height + 12
    box = f'x="{x}" y="{y}" width="{width}" height="{tall}" viewBox="{x} {y} {width} {tall}"'
    parts.append(f"<svg {box}>")
    for line in panel.lines:
        points = [place(point) for point in thin(line.points, MOST_POINTS)]
        parts += _line(line, points, top, bottom)
    return [*parts, "</svg>"]


def _line(line: Line, points: list[Point], top: float, bottom: float) -> list[str]:
    colour = f"var(--{line.colour})"
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    if line.kind == "best":
        x, y = points[0]
        return [
            f'<path stroke="{colour}" stroke-dasharray="3 4" d="M{x:.1f} {top}V{bottom}"/>',
            _dot(x, y, 6, colour, line.name),
        ]
    drawn = [f'<path class="{"faint" if line.kind == "faint" else "line"}" stroke="{colour}" d="{path}"/>']
    if line.kind == "points":
        names = [f"{x:,.10g}: {y:.4f}" for x, y in thin(line.points, MOST_POINTS)]
        drawn += [_dot(x, y, 3, colour, name) for (x, y), name in zip(points, names, strict=True)]
    return drawn


def _dot(x: float, y: float, radius: int, colour: str, name: str) -> str:
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius}"'
    return f'<circle {place} fill="{colour}"><title>{escape(name)}</title></circle>'


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(chart: Chart) -> tuple[list[str], int]:
    """Return the names of the lines, over as many rows as they need, and where the chart can begin."""
    parts, x, y = [], 0.0, 16
    lines = [line for panel in chart.panels for line in panel.lines if line.name and line.kind != "faint"]
    for line in lines if chart.legend else []:
        width = 40 + 7.2 * len(line.name)
        if x and x + width > WIDTH:
            x, y = 0.0, y + 20
        colour = f"var(--{line.colour})"
        if line.kind != "best":
            parts.append(f'<path class="line" stroke="{colour}" d="M{x:g} {y - 4}h20"/>')
        if line.kind != "line":
            parts.append(_dot(x + 10, y - 4, 6 if line.kind == "best" else 3, colour, line.name))
        parts.append(f'<text class="name" x="{x + 26:g}" y="{y}">{escape(line.name)}</text>')
        x += width
    return parts, y + 14

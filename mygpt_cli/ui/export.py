"""Views on the screen, and the same in files: a page in HTML, a picture in SVG.

A view is shown through a Screen, part by part; nothing else is needed for it to be exported as well.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.segment import Segment

from mygpt_cli.base.errors import ResourceError, UsageError
from mygpt_cli.base.files import write_whole
from mygpt_cli.ui.chart import Chart
from mygpt_cli.ui.console import show, stdout_console
from mygpt_cli.ui.markup import SCHEME, escape, style_of
from mygpt_cli.ui.sample import write_json
from mygpt_cli.ui.svg import CHART_STYLE, chart_svg, screen_svg
from mygpt_cli.ui.text import one_line

WIDEST = 100
SVG, HTML = (".svg",), (".html", ".htm")

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
PAGE_STYLE = """
body { margin: 2em auto; max-width: 62em; padding: 0 1em; color: var(--ink); background: var(--page); }
pre { margin: 0; }
.screen { font-size: clamp(8px, 2vw, 14px); }
svg { display: block; width: 100%; max-width: 55em; height: auto; }
"""


def _suffix_fault(flag: str, path: Path | None, suffixes: Sequence[str]) -> str | None:
    """Say where the name of a file promises something else than what would be in it."""
    if path is None or path.suffix.lower() in ("", *suffixes):
        return None
    right = path.with_suffix(suffixes[0])
    return f"{flag} writes no {path.suffix} but {' or '.join(suffixes)}: {flag} {quote(str(right))}"


@dataclass(frozen=True)
class Export:
    """The files that a view goes to; UsageError or ResourceError, before any work, where it cannot."""

    svg: Path | None = None
    html: Path | None = None

    def __post_init__(self) -> None:
        given = (("--svg", self.svg, SVG), ("--html", self.html, HTML))
        if faults := [fault for which in given if (fault := _suffix_fault(*which))]:
            raise UsageError(faults, "a name without a suffix is taken as it is")
        for path in filter(None, (self.svg, self.html)):
            _check(path)
        if self.svg and self.html and self.svg.resolve() == self.html.resolve():
            raise UsageError(f"--svg and --html both name {self.svg}", "give two files")


@dataclass(frozen=True)
class Shown:
    """How a view is shown: so many of the best or worst, with sentences or without, and where to."""

    top: int = 5
    explain: bool = False
    json: bool = False
    to: Export = Export()

    def screen(self, title: str) -> "Screen":
        """Return the screen."""
        return Screen(title, json=self.json, to=self.to)


class Screen:
    """Where a view is shown, as text or as JSON, and kept for the files it is exported to.

    The files are written when it is left, unless by an error: whole, or not at all.
    """

    def __init__(self, title: str, *, json: bool = False, to: Export | None = None) -> None:
        self.title, self.json, self.to = one_line(title), json, to or Export()
        self._console = stdout_console()
        self.width = self._console.width
        self._kept: list[RenderableType] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write()

    def show(self, *parts: RenderableType) -> None:
        """Show parts of the view; a Chart becomes a picture in the files."""
        for part in parts:
            if not self.json:
                show(self._console, part)
            if self.to.svg or self.to.html:
                self._kept.append(part)

    def record(self, record: dict[str, Any]) -> None:
        """Write the same as a JSON line, where that is wanted."""
        if self.json:
            write_json(record)

    def _write(self) -> None:
        width = min(self.width, WIDEST)
        if self.to.html:
            write_file(self.to.html, to_html(self.title, self._kept, width))
        if self.to.svg:
            write_file(self.to.svg, to_svg(self.title, self._kept, width))


def to_html(title: str, parts: Sequence[RenderableType], width: int) -> str:
    """Return one page that needs nothing else: charts as pictures, all else as a screen of `width` cells."""
    body = []
    for is_chart, group in itertools.groupby(parts, lambda part: isinstance(part, Chart)):
        if is_chart:
            body += [chart_svg(chart, inline=True) for chart in group if isinstance(chart, Chart)]
        else:
            lines = ("".join(map(_span, line)).rstrip() for part in group for line in _lines(part, width))
            body.append('<pre class="screen">{}</pre>'.format("\n".join(lines)))
    style = f"{SCHEME}{CHART_STYLE}{PAGE_STYLE}"
    return PAGE.format(title=escape(title), style=style, body="\n".join(body))


def to_svg(title: str, parts: Sequence[RenderableType], width: int) -> str:
    """Return the chart of a view as a picture, or its screen of `width` cells where it has no chart."""
    chart = next((part for part in parts if isinstance(part, Chart)), None)
    if chart:
        return chart_svg(chart)
    return screen_svg(title, [line for part in parts for line in _lines(part, width)], width)


def write_file(path: Path, text: str) -> None:
    """Write a file in one piece, replacing one that is there; ResourceError when that cannot be done."""
    path = path.resolve()
    try:
        write_whole(path, text)
    except OSError as error:
        raise _cannot_write(path, error.strerror or str(error)) from None


def _check(path: Path) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        raise _cannot_write(path, f"there is no folder {folder}")
    if path.exists() and not path.is_file():
        raise _cannot_write(path, "it is not a file")
    if not os.access(folder, os.W_OK):
        raise _cannot_write(path, f"the folder {folder} does not allow it")


def _cannot_write(path: Path, reason: str) -> ResourceError:
    return ResourceError(f"cannot write {path}: {reason}", "name a file in a folder that you can write to")


def _lines(part: RenderableType, width: int) -> list[list[Segment]]:
    # Colours do not depend on the terminal that the command happens to run in.
    console = Console(
        file=StringIO(),
        width=width,
        force_terminal=True,
        color_system="truecolor",
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    return console.render_lines(part, pad=False)


def _span(segment: Segment) -> str:
    style = style_of(segment.style)
    return f"<span{style}>{escape(segment.text)}</span>" if style else escape(segment.text)

"""Views on the screen, and the same in files: a page in HTML, a picture in SVG.

A view is shown through a Screen, part by part; nothing else is needed for it to be exported as well.
"""

import itertools
import os
import tempfile
import webbrowser
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
from mygpt_cli.ui.console import note, show, stdout_console
from mygpt_cli.ui.markup import classes_and_rules, escape
from mygpt_cli.ui.pages.page import Exploration, make_page
from mygpt_cli.ui.sample import write_json
from mygpt_cli.ui.svg import chart_svg, screen_svg
from mygpt_cli.ui.text import one_line

WIDEST = 100
SVG, HTML = (".svg",), (".html", ".htm")


def _suffix_fault(flag: str, path: Path | None, suffixes: Sequence[str]) -> str | None:
    """Say where the name of a file promises something else than what would be in it."""
    if path is None or path.suffix.lower() in ("", *suffixes):
        return None
    right = path.with_suffix(suffixes[0])
    return f"{flag} writes {' or '.join(suffixes)} files, not {path.suffix}: use {flag} {quote(str(right))}"


@dataclass(frozen=True)
class Export:
    """The files that a view goes to; UsageError or ResourceError, before any work, where it cannot.

    `open` shows the page in a browser, from a temporary file where there is no other.
    """

    svg: Path | None = None
    html: Path | None = None
    open: bool = False

    def __post_init__(self) -> None:
        given = (("--svg", self.svg, SVG), ("--html", self.html, HTML))
        if faults := [fault for which in given if (fault := _suffix_fault(*which))]:
            raise UsageError(faults, "a name without a suffix is taken as it is")
        for path in filter(None, (self.svg, self.html)):
            _check(path)
        if self.svg and self.html and self.svg.resolve() == self.html.resolve():
            raise UsageError(f"--svg and --html both name {self.svg}", "give two files")

    @property
    def page(self) -> bool:
        """Whether a page is to be made."""
        return self.html is not None or self.open


@dataclass(frozen=True)
class Shown:
    """How a view is shown: so many of the best or worst, with sentences or without, and where to.

    `model` says which model it is, for a page.
    """

    top: int = 5
    explain: bool = False
    json: bool = False
    to: Export = Export()
    model: str = ""

    def screen(self, title: str) -> "Screen":
        """Return the screen."""
        return Screen(title, json=self.json, to=self.to, model=self.model)


class Screen:
    """Where a view is shown, as text or as JSON, and kept for the files it is exported to.

    The files are written when it is left, unless by an error: whole, or not at all.
    """

    def __init__(self, title: str, *, json: bool = False, to: Export | None = None, model: str = "") -> None:
        self.title, self.json, self.to, self.model = one_line(title), json, to or Export(), model
        self._console = stdout_console()
        self.width = self._console.width
        self._kept: list[RenderableType] = []
        self._exploration: Exploration | None = None

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
            self.keep(part)

    def keep(self, *parts: RenderableType) -> None:
        """Keep parts for the files alone."""
        if self.to.svg or self.to.page:
            self._kept += parts

    def record(self, record: dict[str, Any]) -> None:
        """Write the same as a JSON line, where that is wanted."""
        if self.json:
            write_json(record)

    @property
    def page(self) -> bool:
        """Whether a page is made, so that something to explore is worth its making."""
        return self.to.page

    def explore(self, data: dict[str, Any], *scripts: str) -> None:
        """Let these scripts show this data on the page."""
        self._exploration = Exploration(scripts, data)

    def _write(self) -> None:
        width = min(self.width, WIDEST)
        if self.to.page:
            page = to_html(self.title, self._kept, width, self.model, self._exploration)
            if self.to.html:
                write_file(self.to.html, page)
            if self.to.open:
                open_page(self.to.html or write_temporary(page))
        if self.to.svg:
            write_file(self.to.svg, to_svg(self.title, self._kept, width))


def to_html(
    title: str,
    parts: Sequence[RenderableType],
    width: int,
    model: str = "",
    exploration: Exploration | None = None,
) -> str:
    """Return one page that needs nothing else: charts as pictures, all else as a screen of `width` cells.

    Where there is something to explore, that takes the place of the screen, which stays for readers without
    scripts.
    """
    body, styles = [], _Styles()
    for is_chart, group in itertools.groupby(parts, lambda part: isinstance(part, Chart)):
        if is_chart:
            body += [chart_svg(chart, inline=True) for chart in group if isinstance(chart, Chart)]
        else:
            lines = (
                "".join(map(styles.span, line)).rstrip() for part in group for line in _lines(part, width)
            )
            body.append('<pre class="screen">{}</pre>'.format("\n".join(lines)))
    return make_page(title, model, "\n".join(body), styles.rules(), exploration)


class _Styles:
    """The colours of a screen as classes, since a page's policy allows no style on an element."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def span(self, segment: Segment) -> str:
        """Return a piece of a line as an element with its classes."""
        classes, rules = classes_and_rules(segment.style)
        if rules:
            classes.append(self._names.setdefault(rules, f"c{len(self._names)}"))
        text = escape(segment.text)
        return f'<span class="{" ".join(classes)}">{text}</span>' if classes else text

    def rules(self) -> str:
        """Return the classes as CSS."""
        return "".join(f".{name} {{ {rules} }}\n" for rules, name in self._names.items())


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


def write_temporary(text: str) -> Path:
    """Write a page into a temporary file that stays; ResourceError when that cannot be done."""
    try:
        handle, name = tempfile.mkstemp(prefix="mygpt-", suffix=HTML[0])
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _cannot_write(Path(tempfile.gettempdir()), error.strerror or str(error)) from None
    return Path(name)


def open_page(path: Path) -> None:
    """Show a page in the browser; where there is none, say where the page is."""
    try:
        opened = webbrowser.open(path.resolve().as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        note(f"no browser was found to open the page: it is in {path}")


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

"""The guided tour: its screens one after the other, on a terminal by single keys."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.columns import fitting
from mygpt_cli.ui.console import show, stdout_console
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.keys import single_keys
from mygpt_cli.ui.pages.tour import tour_page
from mygpt_cli.ui.tour_screens import Page, pages
from mygpt_cli.ui.units import count_of

if TYPE_CHECKING:
    from mygpt_cli.inspection.tour import Tour

ON_A_PAGE = 72  # cells of a picture
DISPENSABLE = (4, 0, 2, 1, 3)  # after which parts of a screen a blank line is left out, the first one first
# What a key does, by its name; all others do nothing.
ONWARD, BACK, LEAVE = ("enter", "right", " ", "n"), ("b", "left", "backspace"), ("q", "end")


def render_page(page: Page, width: int, *, answered: bool = True) -> RenderableType:
    """Render a screen of `width` cells (60 or more), with the answer or only its question."""
    parts = _parts(page, fitting(width), answered)
    return Constrain(Group(*(line for part in parts for line in (part, Text()))), fitting(width))


def _parts(page: Page, width: int, answered: bool) -> list[RenderableType]:
    """Return the parts of a screen, between which there are blank lines; the second one is the picture."""
    numbers = Table.grid(padding=(0, 2))
    numbers.add_column(style="dim")
    numbers.add_column(overflow="fold")
    for name, value in page.numbers.items():
        numbers.add_row(Text(name), Text(value, style="bold"))
    asked = Text.assemble(("Question: ", "bold cyan"), page.question)
    answer = Text.assemble(("Answer: ", "bold cyan"), page.answer)
    return [
        Text.assemble((page.place, "dim"), "  ", (page.title, "bold")),
        page.picture(width),
        numbers,
        Text(page.text),
        Group(asked, answer) if answered else asked,
    ]


def fit_page(page: Page, console: Console, *, answered: bool) -> RenderableType:
    """Render a screen for a terminal, above a line that asks for a key.

    Where it is too high with its answer, blank lines are left out, and then the end of the picture.
    """
    width = fitting(console.width)
    options = console.options.update(width=width)

    def lines(part: RenderableType) -> int:
        return len(console.render_lines(part, options, pad=False))

    parts = _parts(page, width, answered)
    # Also before it is answered, so that nothing moves when the answer comes.
    heights = [*map(lines, _parts(page, width, answered=True))]
    over = sum(heights) + len(parts) - (console.height - 1)
    if over > len(parts):
        parts[1] = _Beginning(parts[1], max(0, heights[1] - (over - len(parts)) - 1))
    without = DISPENSABLE[: max(0, over)]
    shown = [[part] if at in without else [part, Text()] for at, part in enumerate(parts)]
    return Constrain(Group(*(line for lines in shown for line in lines)), width)


@dataclass(frozen=True)
class _Beginning:
    """The first rows of a picture, and how many more there are."""

    picture: RenderableType
    rows: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.picture, options, pad=False)
        for line in lines[: self.rows]:
            yield from line
            yield Segment.line()
        more = count_of(len(lines) - self.rows, "more row")
        yield Text(f"… {more}: make the window higher to see them", style="dim", no_wrap=True)


def show_tour(tour: "Tour", how: Shown) -> None:
    """Lead through the tour on a terminal; write all of its screens one after the other anywhere else.

    Files are written before, and a page that is opened takes the place of the terminal's screens.
    """
    whole, watched = pages(tour), not how.json and _is_watched()
    with how.screen("guided tour") as screen:
        for number, page in enumerate(whole, 1):
            record = {"screen": number, "title": page.title, "numbers": dict(page.numbers)}
            screen.record(record | {"text": page.text, "question": page.question, "answer": page.answer})
        if screen.page:
            pictures = ((page.picture(ON_A_PAGE), _words(page)) for page in whole)
            screen.explore(tour_page(pictures, ON_A_PAGE), "tour.js")
        shown = [render_page(page, screen.width) for page in whole]
        if watched:
            screen.keep(*shown)
        else:
            screen.show(*shown)
    if not watched or how.to.open:
        return
    console = stdout_console()

    def turn_to(page: Page, answered: bool) -> None:
        console.clear()
        show(console, fit_page(page, console, answered=answered))

    with single_keys() as key:
        walk(whole, turn_to, lambda prompt: _ask(prompt, key))


def _words(page: Page) -> dict[str, Any]:
    """Return the words of a screen for a page, with its numbers in their order."""
    words = {name: getattr(page, name) for name in ("place", "title", "text", "question", "answer")}
    return words | {"numbers": list(page.numbers.items())}


def _is_watched() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _ask(prompt: str, key: Callable[[], str]) -> str:
    """Wait for a key that does something."""
    try:
        sys.stdout.write(prompt)
        sys.stdout.flush()
        while (pressed := key().lower()) not in (*ONWARD, *BACK, *LEAVE):
            pass
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()
    return pressed


def walk(whole: Sequence[Page], turn_to: Callable[[Page, bool], None], ask: Callable[[str], str]) -> None:
    """Go through the screens: Enter shows the answer, then the next one; b goes back, q leaves.

    `ask` returns the name of the key that is pressed.
    """
    at, answered = 0, False
    while at < len(whole):
        turn_to(whole[at], answered)
        onward = ("next" if at + 1 < len(whole) else "end") if answered else "answer"
        pressed = ask(f"Enter: {onward}{'   b: back' if at or answered else ''}   q: leave ")
        if pressed in LEAVE:
            return
        if pressed in BACK:
            at, answered = (at, False) if answered else (max(0, at - 1), False)
        else:
            at, answered = (at + 1, False) if answered else (at, True)

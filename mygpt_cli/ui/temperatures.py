"""The next token at several temperatures, as a table."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from mygpt_cli.ui.columns import fitting, pack, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.rows import Cell, Column, Row, Rows, bar, closing, heading
from mygpt_cli.ui.steps import PICKED, render_settings, settings_record
from mygpt_cli.ui.text import quoted, visible

if TYPE_CHECKING:
    from mygpt_cli.config.sampling import Sampling
    from mygpt_cli.inspection.temperatures import Probabilities, TemperaturesView

SHARE = 8  # cells of a share and the mark before it
NARROWEST_BAR, WIDEST_BAR = 3, 10


def show_temperatures(
    view: "TemperaturesView", sampling: "Sampling", how: Shown, page: dict[str, Any] | None = None
) -> None:
    """Write the next token at several temperatures; `page` is what a page shows."""
    with how.screen("temperatures") as screen:
        screen.record(as_json(view) | settings_record(sampling))
        screen.show(render_settings(replace(sampling, temperature=1.0)), Text())
        screen.show(render_temperatures(view, screen.width, explain=how.explain))
        if page:
            screen.explore(page, "filters.js", "choice.js", "chart.js", "temperatures.js")


def render_temperatures(view: "TemperaturesView", width: int, *, explain: bool = False) -> RenderableType:
    """Render the shares of each candidate at each temperature for a screen of `width` cells (60 or more)."""
    width = fitting(width)
    parts: list[RenderableType] = [heading("temperatures", view.context, width), Text()]
    for table in _tables(view, width, explain):
        parts += [table, Text()]
    words = "Each column is the choice of the same next token at one temperature: a low one makes the best"
    words += f" token all but certain, a high one gives the others a chance. {PICKED} marks the token that"
    words += f" the draw {view.draw:.6f} picks there."
    return Group(*parts, closing(words))


def _tables(view: "TemperaturesView", width: int, explain: bool) -> Iterator[Rows]:
    """Yield a table, and further ones for the temperatures for which it has no room."""
    count = len(view.candidates) + view.others.count
    digits = max(2, len(str(count - 1)))
    name_width = 12 + (width - 60) // 5
    room = width - (name_width + digits + 7 + 3)
    names = [Column("token", name_width), Column("id", digits, right=True), Column("logit", 7, right=True)]
    for part in pack([SHARE] * len(view.temperatures), room - 1, 1):
        wide = min(WIDEST_BAR, (room - 1) // len(part) - SHARE - 2)
        wide = wide if wide >= NARROWEST_BAR else 0
        columns = list(names)
        for at in part:
            columns.append(Column(f"{view.temperatures[at]:g}", SHARE, right=True))
            columns += [Column("", wide)] if wide else []
        rows = [
            Row(
                [*name, *(cell for at in part for cell in cells(at)[: 2 if wide else 1]), ""], sentence, style
            )
            for name, cells, sentence, style in _rows(view)
        ]
        yield Rows([*columns, Column("", 0)], rows, width, explain and not part.start, gap=1)


_Line = tuple[tuple[str, str, str], Callable[[int], tuple[Cell, Cell]], str, str]


def _rows(view: "TemperaturesView") -> Iterator[_Line]:
    """Yield each row: its name, a number and a bar for a temperature, a sentence, a style."""
    for candidate in view.candidates:

        def share(at: int, candidate: "Probabilities" = candidate) -> tuple[Cell, Cell]:
            picked = view.picked[at] == candidate.id
            style = "bold green" if picked else ""
            left = candidate.probabilities[at]
            words = "cut" if candidate.cut[at] else percent(left)
            return Text(f"{PICKED if picked else ''}{words:>7}", style=style), bar(left, style or "cyan")

        shares = zip(view.temperatures, candidate.probabilities, candidate.cut, strict=True)
        listed = ", ".join(f"{'cut' if cut else percent(left)} at {at:g}" for at, left, cut in shares)
        name = visible(candidate.token), str(candidate.id), f"{candidate.logit:.2f}"
        yield name, share, f"{quoted(candidate.token)}: {listed}.", ""
    others = view.others
    if others.count:
        yield (
            (f"{others.count:,} more", "", ""),
            lambda at: (
                percent(others.probabilities[at]) if others.kept[at] else "cut",
                bar(others.probabilities[at], "dim"),
            ),
            f"What is left for the {others.count:,} other tokens together.",
            "dim",
        )
    yield (
        ("entropy bits", "", ""),
        lambda at: (f"{view.spreads[at].entropy:.2f}", ""),
        "The entropy says how open the choice is: 0 bits where one token is certain.",
        "dim",
    )
    yield (
        ("choices", "", ""),
        lambda at: (f"{view.spreads[at].choices:,.1f}", ""),
        "As open as a choice among this many equally likely tokens: 2 to the power of the entropy.",
        "dim",
    )

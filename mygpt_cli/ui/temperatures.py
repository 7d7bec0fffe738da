"""The next token at several temperatures, as a table."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.bar import Bar
from mygpt_cli.ui.columns import fitting, light_table, pack, percent
from mygpt_cli.ui.explain import Explained
from mygpt_cli.ui.steps import PICKED
from mygpt_cli.ui.text import one_line, tail, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.temperatures import TemperaturesView

SHARE = 8  # cells of a share and the mark before it
WIDEST_BAR = 10


def render_temperatures(view: "TemperaturesView", width: int, *, explain: bool = False) -> RenderableType:
    """Render the shares of each candidate at each temperature for a screen of `width` cells (60 or more)."""
    width = fitting(width)
    title = Text("temperatures  ", style="bold")
    context = one_line(view.context.decode("utf-8", "surrogateescape"))
    title.append(tail(context, width - title.cell_len) or "(no text yet)", style="not bold")
    parts: list[RenderableType] = [title, Text()]
    sentences = _sentences(view) if explain else []
    for table in _tables(view, width):
        parts += [Explained(table, sentences), Text()]
        sentences = []
    words = "Each column is the choice of the same next token at one temperature: a low one makes the best"
    words += f" token all but certain, a high one gives the others a chance. {PICKED} marks the token that"
    words += f" the draw {view.draw:.6f} picks there."
    return Group(*parts, Text(words, style="dim"))


def _tables(view: "TemperaturesView", width: int) -> Iterator[Table]:
    """Yield a table, and further ones for the temperatures for which it has no room."""
    count = len(view.candidates) + view.others.count
    digits = max(2, len(str(count - 1)))
    name_width = 12 + (width - 60) // 5
    room = width - (name_width + digits + 7 + 3)
    for part in pack([SHARE] * len(view.temperatures), room - 1, 1):
        bar = min(WIDEST_BAR, (room - 1) // len(part) - SHARE - 2)
        table = light_table(width, gap=1)
        table.add_column("token", width=name_width, no_wrap=True, overflow="ellipsis")
        table.add_column("id", width=digits, justify="right")
        table.add_column("logit", width=7, justify="right")
        for at in part:
            table.add_column(f"{view.temperatures[at]:g}", width=SHARE, justify="right", no_wrap=True)
            if bar > 0:
                table.add_column("", width=bar)
        table.add_column("", ratio=1)
        for candidate in view.candidates:
            cells: list[RenderableType] = []
            for at in part:
                picked = view.picked[at] == candidate.id
                style = "bold green" if picked else ""
                share = "cut" if candidate.cut[at] else percent(candidate.probabilities[at])
                cells.append(Text(f"{PICKED if picked else ''}{share:>7}", style=style))
                cells += [Bar(candidate.probabilities[at], style or "cyan")] if bar > 0 else []
            token = Text(visible(candidate.token))
            table.add_row(token, str(candidate.id), f"{candidate.logit:.2f}", *cells)
        if view.others.count:
            cells = []
            for at in part:
                left = view.others.probabilities[at]
                cells.append(percent(left) if view.others.kept[at] else "cut")
                cells += [Bar(left, "dim")] if bar > 0 else []
            table.add_row(f"{view.others.count:,} more", "", "", *cells, style="dim")
        for name, values in (
            ("entropy bits", [f"{view.spreads[at].entropy:.2f}" for at in part]),
            ("choices", [f"{view.spreads[at].choices:,.1f}" for at in part]),
        ):
            cells = [cell for value in values for cell in ([value] + [""] * (bar > 0))]
            table.add_row(name, "", "", *cells, style="dim")
        yield table


def _sentences(view: "TemperaturesView") -> list[str]:
    """Say in words what each row shows."""
    told = []
    for candidate in view.candidates:
        shares = zip(view.temperatures, candidate.probabilities, candidate.cut, strict=True)
        listed = ", ".join(f"{'cut' if cut else percent(share)} at {at:g}" for at, share, cut in shares)
        told.append(f"{visible(candidate.token)}: {listed}.")
    if view.others.count:
        told.append(f"What is left for the {view.others.count:,} other tokens together.")
    told.append("The entropy says how open the choice is: 0 bits where one token is certain.")
    return [
        *told,
        "As open as a choice between so many equally likely tokens: 2 to the power of the entropy.",
    ]

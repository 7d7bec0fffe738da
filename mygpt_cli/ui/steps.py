"""The choice at every step, as tables."""

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mygpt_cli.generation.settings import field_of
from mygpt_cli.ui.bar import Bar
from mygpt_cli.ui.text import one_line, tail, visible

if TYPE_CHECKING:
    from mygpt_cli.generation.settings import Sampling
    from mygpt_cli.inspection.steps import Candidate, Spread, StepView

NARROWEST = 60  # a screen narrower than this cuts the lines off
WIDEST = 100
ROOMY = 72  # cells from which there is room to name the filter that cut a token
PICKED = "▸"


def render_settings(sampling: "Sampling") -> Text:
    """Say once how the tokens are chosen."""
    values = {name: getattr(sampling, field_of(name)) for name in sampling.active if name != "greedy"}
    parts = [f"{name} {_value(value)}" for name, value in values.items()]
    parts += ["greedy: the best token is always taken" if sampling.greedy else f"seed {sampling.seed}"]
    return Text(", ".join(parts), style="dim")


def _value(value: object) -> str:
    """Write the value of a setting: a number, a text, or several."""
    if isinstance(value, float):
        return f"{value:g}"
    texts = value if isinstance(value, tuple) else (value,)
    return " ".join(f"'{one_line(text)}'" if isinstance(text, str) else str(text) for text in texts)


def render_step(view: "StepView", width: int) -> RenderableType:
    """Render one step for a screen of `width` cells (60 or more): title, table, and how it was decided."""
    width = max(NARROWEST, min(width, WIDEST))
    title = Text(f"step {view.index}  ", style="bold")
    context = one_line(view.context.decode("utf-8", "surrogateescape"))
    title.append(tail(context, width - title.cell_len) or "(no text yet)", style="not bold")
    return Group(title, Text(), _table(view, width), Text(), _decision(view), Text())


def _table(view: "StepView", width: int) -> Table:
    filtered = _is_filtered(view)
    others = view.others
    digits = len(str(len(view.candidates) + others.count - 1))
    table = light_table(width)
    table.add_column("", width=1)
    table.add_column("", width=digits, justify="right")
    table.add_column("token", width=12 + (width - 60) // 5, no_wrap=True, overflow="ellipsis")
    table.add_column("id", width=digits, justify="right")
    table.add_column("logit", width=7, justify="right")
    table.add_column("model", width=6, justify="right")
    if filtered:
        table.add_column("final", width=6, justify="right")
    table.add_column("", ratio=1, min_width=4, no_wrap=True, overflow="crop")
    for candidate in view.candidates:
        table.add_row(*_row(candidate, filtered=filtered, roomy=width >= ROOMY), style=_style(candidate))
    if others.count:
        name = Text(f"{others.count:,} more")
        shares: list[RenderableType] = [percent(others.probability)]
        if filtered:
            shares.append(percent(others.final_probability) if others.kept else "cut")
        bar = Bar(others.final_probability if filtered else others.probability, "dim")
        table.add_row("", "", name, "", "", *shares, bar, style="dim")
    return table


def _style(candidate: "Candidate") -> str:
    if candidate.picked:
        return "bold green"
    return "dim" if candidate.cut_by else ""


def _row(candidate: "Candidate", *, filtered: bool, roomy: bool) -> list[RenderableType]:
    row: list[RenderableType] = [
        PICKED if candidate.picked else "",
        str(candidate.rank),
        Text(visible(candidate.token)),
        str(candidate.id),
        f"{candidate.logit:.2f}",
        percent(candidate.probability),
    ]
    style = "green" if candidate.picked else "cyan"
    if not filtered:
        return [*row, Bar(candidate.probability, style)]
    if candidate.cut_by:
        return [*row, "cut", f"by {candidate.cut_by}" if roomy else ""]
    return [*row, percent(candidate.final_probability), Bar(candidate.final_probability, style)]


def _decision(view: "StepView") -> RenderableType:
    picked = view.picked
    if _is_greedy(view):
        drawn = Text("picked as the best: ", style="dim")
    else:
        drawn = Text(f"draw {view.draw:.6f} in [{picked.low:.6f}, {picked.high:.6f}): ", style="dim")
    drawn.append(visible(picked.token), style="bold not dim")
    spread = Text(f"entropy {_spread(view.model_spread)}", style="dim")
    if _is_filtered(view):
        spread.append(f" → {_spread(view.final_spread)}")
    return Padding(Group(drawn, spread), (0, 0, 0, 2))


def _spread(spread: "Spread") -> str:
    return f"{spread.entropy:.2f} bits, {spread.choices:,.1f} choices"


def _is_filtered(view: "StepView") -> bool:
    """Whether there are final probabilities to show beside the model's: greedy choice needs none."""
    return view.filters not in ((), ("greedy",))


def _is_greedy(view: "StepView") -> bool:
    return view.filters[-1:] == ("greedy",)


def render_footer(view: "StepView") -> RenderableType:
    """Render the text as it stands after the last step, and a sentence on what the tables show."""
    words = "Each row is a token that could come next, with the model's own probability for it"
    words += ", and the final one, after the filters" if _is_filtered(view) else ""
    written = Text(one_line(view.context.decode("utf-8", "surrogateescape")))
    written.append(one_line(view.picked.token.decode("utf-8", "surrogateescape")), style="bold")
    words += f". {PICKED} marks the one picked."
    return Constrain(Group(written, Text(), Text(words, style="dim")), WIDEST)


def light_table(width: int, *, footer: bool = False) -> Table:
    """Return an empty table with one thin line under its header and space between its columns."""
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        width=width,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        border_style="dim",
        header_style="dim",
        show_footer=footer,
    )


def percent(share: float) -> str:
    """Write a share (0 to 1) as a percentage of one decimal; what is not 0 never looks like it."""
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"

"""The choice at every step, as tables."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.text import Text

from mygpt_cli.config.sampling import field_of
from mygpt_cli.ui.columns import WIDEST, fitting, pack, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.pages.steps import steps_page
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.rows import Cell, Column, Row, Rows, bar, closing, heading
from mygpt_cli.ui.text import one_line, quoted, visible

if TYPE_CHECKING:
    from mygpt_cli.config.sampling import Sampling
    from mygpt_cli.inspection.choices import ChoiceRecorder
    from mygpt_cli.inspection.steps import Candidate, Spread, StepView
    from mygpt_cli.tokens.tokenizer import Tokenizer

PICKED = "▸"
NARROWEST_BAR = 4
# The filters as the heads of narrow columns.
HEADS = {
    "logit-bias": "bias",
    "repetition-penalty": "repeat",
    "frequency-penalty": "freq",
    "presence-penalty": "pres",
    "no-repeat-ngram": "n-gram",
    "min-new-tokens": "min-new",
    "ignore-end": "no-end",
    "begin-with": "begin",
    "temperature": "temp",
    "typical-p": "typical",
}


def show_steps(
    views: Iterable["StepView"],
    sampling: "Sampling",
    how: Shown,
    page: "tuple[ChoiceRecorder, Tokenizer] | None" = None,
) -> None:
    """Write each step of generation as it is made; a page is made from what the recorder has kept then."""
    with how.screen("steps of generation") as screen:
        screen.show(render_settings(sampling), Text())
        first = last = None
        for last in views:
            first = first or last
            screen.record(as_json(last) | settings_record(sampling))
            screen.show(render_step(last, screen.width, explain=how.explain))
        if last:
            screen.show(render_footer(last))
        if page and first:
            screen.explore(steps_page(first.context, *page), "filters.js", "choice.js", "steps.js")


def settings_record(sampling: "Sampling") -> dict[str, Any]:
    """Return for JSON how tokens are chosen."""
    settings = dataclasses.asdict(sampling)
    return {"seed": settings.pop("seed"), "settings": settings}


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


def render_step(view: "StepView", width: int, *, explain: bool = False) -> RenderableType:
    """Render one step for a screen of `width` cells (60 or more): title, table, and how it was decided."""
    width = fitting(width)
    title = heading(f"step {view.index}", view.context, width)
    return Group(title, Text(), render_choice(view, width, explain=explain), Text())


def render_choice(view: "StepView", width: int, *, explain: bool = False) -> RenderableType:
    """Render the candidates for the next token, column by column, and how one of them was picked."""
    parts: list[RenderableType] = []
    for table in _tables(view, width, explain):
        parts += [table, Text()]
    return Group(*parts, _decision(view))


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of shares or logits: its head, its width, a cell for each candidate and one for the others."""

    head: str
    width: int
    cells: list[str]
    others: str


def _columns(view: "StepView") -> Iterator[_Column]:
    """List what happens to the candidates from left to right, with a column for each of several filters."""
    listed, others = view.candidates, view.others
    yield _Column("logit", 7, [f"{candidate.logit:.2f}" for candidate in listed], "")
    yield _Column("model", 6, [percent(c.probability) for c in listed], percent(others.probability))
    if not _is_filtered(view):
        return
    for at, name in enumerate(view.filters if len(view.filters) > 1 else ()):
        gone = view.filters[: at + 1]
        cells = ["cut" if c.cut_by in gone else percent(c.stages[at]) for c in listed]
        share, kept = others.stages[at]
        yield _Column(HEADS.get(name, name), 7, cells, percent(share) if kept else "cut")
    final = ["cut" if c.cut_by else percent(c.final_probability) for c in listed]
    yield _Column("final", 6, final, percent(others.final_probability) if others.kept else "cut")


def _tables(view: "StepView", width: int, explain: bool) -> Iterator[Rows]:
    """Yield the table of the candidates, and further ones with the columns for which it has no room."""
    others, columns = view.others, list(_columns(view))
    digits = len(str(len(view.candidates) + others.count - 1))
    name_width = 12 + (width - 60) // 5
    gap = 1 if len(view.filters) > 1 else 2
    room = width - (1 + digits + name_width + digits + 4 * gap)
    names = [Column("", 1), Column("", digits, right=True), Column("token", name_width)]
    names.append(Column("id", digits, right=True))
    for part in pack([column.width for column in columns], room - 1, gap):
        here = columns[part.start : part.stop]
        left = room - sum(column.width + gap for column in here)
        left = left if part.stop == len(columns) and left >= NARROWEST_BAR else 0
        rows: list[Row] = []
        for at, candidate in enumerate(view.candidates):
            mark = PICKED if candidate.picked else ""
            name = (mark, str(candidate.rank), visible(candidate.token), str(candidate.id))
            cells = [*name, *(column.cells[at] for column in here), _bar(view, candidate, left)]
            rows.append(Row(cells, _sentence(view, candidate), _style(candidate)))
        if others.count:
            share = others.final_probability if _is_filtered(view) else others.probability
            end = bar(share, "dim") if left else ""
            cells = ["", "", f"{others.count:,} more", "", *(column.others for column in here), end]
            rows.append(Row(cells, _sentence_on_others(view), "dim"))
        shares = [Column(column.head, column.width, right=True) for column in here]
        yield Rows([*names, *shares, Column("", 0)], rows, width, explain and not part.start, gap)


def _bar(view: "StepView", candidate: "Candidate", width: int) -> Cell:
    """Draw a candidate's share, or say what cut it, where there is room."""
    if not width:
        return ""
    style = "green" if candidate.picked else "cyan"
    if not _is_filtered(view):
        return bar(candidate.probability, style)
    if candidate.cut_by:
        words = f"by {candidate.cut_by}"
        return words if len(words) <= width else ""
    return bar(candidate.final_probability, style)


def _style(candidate: "Candidate") -> str:
    if candidate.picked:
        return "bold green"
    return "dim" if candidate.cut_by else ""


def _sentence(view: "StepView", candidate: "Candidate") -> str:
    """Say in words what became of a candidate."""
    told = f"{quoted(candidate.token)} is the model's number {candidate.rank:,}, with "
    told += f"{percent(candidate.probability)} of the probability"
    for name, share in zip(view.filters, candidate.stages, strict=True):
        if candidate.cut_by == name:
            return f"{told}; {name} cuts it."
        told += f", {percent(share)} after {name}"
    if _is_greedy(view):
        return f"{told}: it is the best that is left, and so it is picked."
    told += f". A draw from {candidate.low:.6f} up to {candidate.high:.6f} picks it"
    return f"{told}, and this one did." if candidate.picked else f"{told}."


def _sentence_on_others(view: "StepView") -> str:
    others = view.others
    told = f"All other tokens share {percent(others.probability)}"
    return f"{told}; the filters leave {others.kept:,} of them." if _is_filtered(view) else f"{told}."


def _decision(view: "StepView") -> RenderableType:
    picked = view.picked
    if _is_greedy(view):
        drawn = Text("picked as the best: ", style="dim")
    else:
        drawn = Text(f"draw {view.draw:.6f} in [{picked.low:.6f}, {picked.high:.6f}): ", style="dim")
    drawn.append(visible(picked.token), style="bold not dim")
    spread = Text(f"uncertainty: like choosing among {_choices(view.model_spread)} tokens", style="dim")
    if _is_filtered(view):
        spread.append(f" → {_choices(view.final_spread)}")
    return Padding(Group(drawn, spread), (0, 0, 0, 2))


def _choices(spread: "Spread") -> str:
    return f"{spread.choices:,.{0 if spread.choices >= 10 else 1}f}"


def _is_filtered(view: "StepView") -> bool:
    """Whether there are final probabilities to show beside the model's: greedy choice needs none."""
    return view.filters not in ((), ("greedy",))


def _is_greedy(view: "StepView") -> bool:
    return view.filters[-1:] == ("greedy",)


def render_footer(view: "StepView") -> RenderableType:
    """Render the text as it stands after the last step, and a sentence on what the tables show."""
    words = "Each row is a token that could come next, with the model's own probability for it"
    words += ", what each filter makes of it" if len(view.filters) > 1 else ""
    words += ", and the final one, after the filters" if _is_filtered(view) else ""
    written = Text(one_line(view.context.decode("utf-8", "surrogateescape")))
    written.append(one_line(view.picked.token.decode("utf-8", "surrogateescape")), style="bold")
    words += f". {PICKED} marks the one picked."
    return Constrain(Group(written, Text(), closing(words)), WIDEST)

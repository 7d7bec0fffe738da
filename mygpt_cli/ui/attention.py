"""Attention on the screen and as JSON: the heads, what the answer is made of, and heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from mygpt_cli.ui.columns import NARROWEST, ROOMY, fitting, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.pages.attention import attention_page
from mygpt_cli.ui.records import as_json, token_fields
from mygpt_cli.ui.rows import INDENT, Cell, Column, Row, Rows, bar, closing, heading
from mygpt_cli.ui.shade import legend, shade, shade_style
from mygpt_cli.ui.text import head, quoted, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.attention import AttentionView, Head, HeatMap
    from mygpt_cli.inspection.contributions import Contribution

LABEL = 10  # cells of a token beside its row of a map
LARGEST = 8  # cells of a weight in a map
MEANING = {
    "previous_token": "the token just before",
    "first_token": "the text's first token",
    "same_token": "earlier tokens equal to the one it stands on",
    "induction": "what followed the same token earlier",
    "itself": "the token it stands on",
}


def show_attention(view: "AttentionView", how: Shown, maps: "Sequence[HeatMap]" = ()) -> None:
    """Write what the heads do, what the answer's logit is made of, and the maps; a page shows all `maps`."""
    with how.screen("attention") as screen:
        record = as_json(view)
        pairs = zip(record.pop("ids"), view.tokens, strict=True)
        record["tokens"] = [{"id": token, **token_fields(text)} for token, text in pairs]
        screen.record(record)
        screen.show(*render_attention(view, screen.width, explain=how.explain))
        if maps:
            screen.explore(attention_page(view, maps), "attention.js")


def render_attention(
    view: "AttentionView", width: int, *, explain: bool = False
) -> tuple[RenderableType, ...]:
    """Render the parts of the view for a screen of `width` cells (60 or more)."""
    narrow = fitting(width)
    answer = Text("answer ").append(visible(view.answer_token), style="bold green")
    shown: list[RenderableType] = [
        heading("attention", b"".join(view.tokens), narrow),
        Text(),
        answer.append(f"  {percent(view.probability)}"),
        Text(),
        _heads(view, narrow, explain),
        Text(),
        _parts(view, narrow, explain),
    ]
    for heat in view.maps:
        shown += [Text(), Map(view, heat, explain)]
    return (*shown, Text(), closing(_summary(view)))


def _heads(view: "AttentionView", width: int, explain: bool) -> Rows:
    columns = [
        Column("layer", 5, right=True),
        Column("head", 4, right=True),
        Column("looks at", 19),
        Column("logit", 6, right=True),
        Column("without", 7, right=True),
        Column("change", 6, right=True),
        *([Column("last token's looks", 0)] if width >= ROOMY else []),
    ]
    rows = []
    for found in view.heads:
        cells: list[Cell] = [
            str(found.layer),
            str(found.head),
            _name(found),
            f"{found.logit:+.2f}",
            percent(found.probability),
            _change(found, view),
        ]
        cells += [_strip(found.weights)] if width >= ROOMY else []
        rows.append(Row(cells, _head_sentence(found, view)))
    return Rows(columns, rows, width, explain)


def _name(found: "Head") -> Text:
    if found.kind is None or found.share is None:
        return Text("too short to tell", style="dim")
    if not found.named:
        return Text("mixed", style="dim")
    return Text(f"{_words(found.kind)} {found.share:.0%}", style="bold")


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _change(found: "Head", view: "AttentionView") -> Text:
    points = 100 * (found.probability - view.probability)
    style = "dim" if abs(points) < 1 else "red" if points < 0 else "green"
    return Text(f"{points:+.1f}", style=style)


def _strip(weights: Sequence[float]) -> Cell:
    """Return a cell with the last weights that fit."""
    return lambda width, ascii_only: _shades(weights[-width:], 1, ascii_only=ascii_only)


def _shades(weights: Sequence[float], cells: int, *, ascii_only: bool) -> Text:
    text = Text(no_wrap=True)
    for weight in weights:
        text.append(shade(weight, ascii_only=ascii_only) * cells, style=shade_style(weight))
    return text


def _parts(view: "AttentionView", width: int, explain: bool) -> Rows:
    every = view.contributions
    answer, rival = quoted(view.answer_token), quoted(view.rival_token)
    columns = [
        Column("what adds to the logit", 22),
        Column("layer", 5, right=True),
        Column("logit", 8, right=True),
        Column(f"over {head(visible(view.rival_token), 6)}", 11, right=True),
        Column("", 0),
    ]
    most = max(abs(part.logit) for part in every.parts) or 1.0
    rows = []
    for part in every.parts:
        end = bar(abs(part.logit) / most, "cyan" if part.logit > 0 else "red")
        cells: list[Cell] = [part.part, str(part.layer or ""), *_numbers(part.logit, part.lead), end]
        rows.append(Row(cells, _part_sentence(part, answer, rival)))
    lost = every.rounding
    told = "What float32 loses on the way: the difference between the sum and the logit."
    rows.append(Row(["rounding", "", f"{lost.logit:+.0e}", f"{lost.lead:+.0e}", ""], told, "dim"))
    told = f"What the model gives {answer}, and its lead over {rival}: the sum of all rows above."
    rows.append(Row(["the logit itself", "", *_numbers(every.logit, every.lead), ""], told, "bold"))
    return Rows(columns, rows, width, explain)


def _numbers(logit: float, lead: float) -> tuple[str, str]:
    return f"{logit:+.3f}", f"{lead:+.3f}"


@dataclass(frozen=True)
class Map:
    """A heat map of a head: a row for each of the last tokens that fit, and in it its weights on those."""

    view: "AttentionView"
    heat: "HeatMap"
    explain: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        tokens, before, ascii_only = self.view.tokens, self.view.before, options.ascii_only
        found = next(h for h in self.view.heads if (h.layer, h.head) == (self.heat.layer, self.heat.head))
        digits = len(str(before + len(tokens)))
        room = max(NARROWEST, options.max_width) - digits - LABEL - 2
        count = min(len(tokens), room // 2)
        start = len(tokens) - count
        longest = max(cell_len(visible(token)) for token in tokens[start:])
        cells = min(longest + 1, LARGEST, room // count)
        title = Text(f"layer {self.heat.layer}, head {self.heat.head}: ", style="bold")
        yield title.append_text(_name(found))
        above = Text(" " * (digits + LABEL + 2), style="dim", no_wrap=True)
        if cells > min(longest, 3):
            names = (head(visible(token), cells - 1) for token in tokens[start:])
            yield above.append("".join(_padded(name, cells) for name in names).rstrip())
        else:
            yield above.append(_ticks(before + start, count, cells).rstrip())
        for at in range(start, len(tokens)):
            row = Text(f"{before + at + 1:>{digits}} ", style="dim", no_wrap=True)
            row.append(_padded(head(visible(tokens[at]), LABEL), LABEL + 1), style="not dim")
            yield row.append_text(_shades(self.heat.weights[at][start:], cells, ascii_only=ascii_only))
            if self.explain:
                sentence = _row_sentence(self.heat.weights[at], tokens, before)
                yield Text(" " * INDENT + sentence, style="dim italic", no_wrap=True, overflow="ellipsis")
        if before + start:
            yield Text(f"the last {count:,} of {before + len(tokens):,} positions", style="dim")
        yield Text(legend(ascii_only=ascii_only), style="dim")


def _padded(text: str, cells: int) -> str:
    return text + " " * (cells - cell_len(text))


def _ticks(start: int, count: int, cells: int) -> str:
    """Write the numbers of positions above their columns, with room between them."""
    line = ""
    for at in range(count):
        number = str(start + at + 1)
        fits = (count - at) * cells >= len(number)
        if fits and (start + at + 1) % 5 == 0 and len(line) <= at * cells:
            line = line.ljust(at * cells) + number + " "
    return line


def _row_sentence(weights: Sequence[float], tokens: Sequence[bytes], before: int) -> str:
    best = max(range(len(weights)), key=lambda at: weights[at])
    where = "itself" if best == len(weights) - 1 else f"{quoted(tokens[best])} at {before + best + 1}"
    return f"looks most at {where}, with {percent(weights[best])}"


def _head_sentence(found: "Head", view: "AttentionView") -> str:
    points = 100 * abs(found.probability - view.probability)
    less = "less" if found.probability < view.probability else "more"
    change = f"without this head the answer is {points:.1f} points {less} likely."
    if found.kind is None or found.share is None:
        return f"The text is too short to say what it looks at; {change}"
    if found.named:
        return f"On average, {found.share:.0%} of its attention goes to {MEANING[found.kind]}; {change}"
    return f"No kind gets half of its attention on average ({_words(found.kind)} {found.share:.0%}); {change}"


def _part_sentence(part: "Contribution", answer: str, rival: str) -> str:
    mine, its = part.logit, part.logit - part.lead
    up, down = ("Raises", "lowers") if (mine or its) > 0 else ("Lowers", "raises")
    if mine * its < 0:
        beside = f"and {down} {rival}"
    elif part.lead == 0:
        beside = f"and {rival} by as much"
    else:
        beside = f"but {rival} by more" if abs(its) > abs(mine) else f"and {rival} by less"
    return f"{up} {answer} by {abs(mine):.3f}, {beside}."


def _summary(view: "AttentionView") -> str:
    most = max(view.heads, key=lambda found: abs(found.probability - view.probability))
    points = 100 * (most.probability - view.probability)
    return (
        "A head is named by what gets more than half of its attention: a mean over the positions from the"
        " third on that have such a token. The change is what the answer's probability does, in points,"
        " without the head."
        f" What matters most here is head {most.head} of layer {most.layer} ({points:+.1f})."
    )

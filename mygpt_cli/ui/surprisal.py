"""How surprised a model is by a text, on the screen: a colour for the surprisal, a sign for the rank."""

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from mygpt_cli.ui.columns import WIDEST, percent
from mygpt_cli.ui.copied import copied_record, render_copied
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.pages.steps import broken
from mygpt_cli.ui.pages.surprisal import WORST, surprisal_page
from mygpt_cli.ui.rows import Cell, Column, Row, Rows, bar, closing
from mygpt_cli.ui.text import one_line, tail, visible
from mygpt_cli.ui.units import count, count_of

if TYPE_CHECKING:
    from mygpt_cli.inspection.copied import Copied
    from mygpt_cli.inspection.surprisal import Surprisal
    from mygpt_cli.tokens.tokenizer import Tokenizer

MOST_SHOWN = 20_000  # tokens in the running text
# Up to so many bits, and the colour, which has to be readable on light and dark; up to such a rank, and the
# sign behind the token.
COLOURS = ((1.0, "green"), (4.0, ""), (8.0, "magenta"), (float("inf"), "red"))
SIGNS = ((1, "", ""), (10, "·", "."), (100, "•", "+"), (float("inf"), "◆", "#"))


class Running:
    """A text of which each token is coloured by its surprisal and followed by the sign of its rank."""

    def __init__(self, view: "Surprisal", tokenizer: "Tokenizer", width: int) -> None:
        self.view, self.tokenizer, self.width = view, tokenizer, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ids = self.view.ids[:MOST_SHOWN].tolist()
        shown = Text(overflow="fold", end="")
        shown.append(broken(self.tokenizer.token_bytes(ids[0])), style="dim")
        bits = self.view.bits
        for place, token in enumerate(ids[1:]):
            sign = sign_of(int(self.view.ranks[place]), ascii_only=options.ascii_only)
            text, end = broken(self.tokenizer.token_bytes(token)), ""
            if text.endswith("\n"):
                text, end = text[:-1], "\n"
            shown.append(text + sign + end, style=colour_of(float(bits[place])))
        if (more := len(self.view.ids) - MOST_SHOWN) > 0:
            shown.append(f" … {count_of(more, 'token')} more", style="dim")
        shown.rstrip()
        yield from console.render(shown, options.update(width=min(self.width, options.max_width)))
        yield Text()


def colour_of(bits: float) -> str:
    """Return the colour of a surprisal in bits."""
    return next(colour for limit, colour in COLOURS if bits < limit)


def sign_of(rank: int, *, ascii_only: bool = False) -> str:
    """Return the sign of a rank, none for the first."""
    return next(plain if ascii_only else sign for limit, sign, plain in SIGNS if rank <= limit)


class Legend:
    """Says what the signs mean, and the colours where there are any."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if console.color_system and not console.no_color:
            line = Text("bits  ", style="dim")
            for limit, colour in COLOURS:
                name = f"under {limit:g}" if np.isfinite(limit) else "more"
                line.append(f"{name}  ", style=colour or "not dim")
            yield line
        signs = [plain if options.ascii_only else sign for _, sign, plain in SIGNS]
        yield Text(f"rank  1  2 to 10 {signs[1]}  11 to 100 {signs[2]}  beyond {signs[3]}", style="dim")


def show_surprisal(
    view: "Surprisal", tokenizer: "Tokenizer", copied: "Copied | str", text: str, how: Shown
) -> None:
    """Write how surprised a model is by a text, and what of it was copied, or why that is not known."""
    with how.screen("surprisal") as screen:
        found = None if isinstance(copied, str) else copied_record(copied, text)
        screen.record(surprisal_record(view) | {"copied": found})
        screen.show(
            *render_surprisal(view, tokenizer, screen.width, top=how.top, explain=how.explain), Text()
        )
        if isinstance(copied, str):
            words = (
                f"Whether it was copied is unknown: the training text cannot be read ({one_line(copied)})."
            )
            screen.show(Text(words, style="dim"))
        else:
            screen.show(*render_copied(copied, text, screen.width, explain=how.explain))
        if screen.page:
            lines = lines_of(view, tokenizer, view.worst(WORST))
            screen.explore(surprisal_page(view, tokenizer, copied, text, lines), "chart.js", "surprisal.js")


def surprisal_record(view: "Surprisal") -> dict[str, Any]:
    """Return a text's losses for JSON; `nats`, `ranks` and `best` are null for the first token."""
    numbers = {name: [None, *getattr(view, name).tolist()] for name in ("nats", "ranks", "best", "best_nats")}
    return {
        "tokens": len(view.ids),
        "bytes": view.bytes,
        "bits_per_byte": view.bits_per_byte,
        "nats_per_token": view.nats_per_token,
        "perplexity": view.perplexity,
        "ids": view.ids.tolist(),
        **numbers,
    }


def render_surprisal(
    view: "Surprisal", tokenizer: "Tokenizer", width: int, *, top: int, explain: bool = False
) -> list[RenderableType]:
    """Render the text, how surprising it is in all, and its `top` worst places, for 60 cells or more."""
    width = min(width, WIDEST)
    return [
        Running(view, tokenizer, width),
        Text(),
        Legend(),
        Text(),
        _spread(view, width, explain),
        Text(),
        _worst(view, tokenizer, width, top, explain),
        Text(),
        closing(_words(view)),
    ]


def _spread(view: "Surprisal", width: int, explain: bool) -> Rows:
    total, low, bits = len(view.nats), 0, view.bits.astype(np.float64)
    rows = []
    for limit, _, _ in SIGNS:
        here = (view.ranks > low) & (view.ranks <= limit)
        if limit == 1:
            name, choice = "first", "the model's first choice"
        elif np.isfinite(limit):
            name = f"{low + 1} to {limit:g}"
            choice = f"the model's choice number {name}"
        else:
            name, choice = f"beyond {low}", f"below the model's first {low}"
        mean = f"{bits[here].mean():.2f}" if here.any() else ""
        share = int(here.sum()) / total
        sentence = f"In {percent(share)} of the places, the token that came was {choice}."
        rows.append(Row([name, count(int(here.sum())), percent(share), mean, bar(share)], sentence))
        low = int(limit) if np.isfinite(limit) else low
    columns = [Column("rank", 12), Column("tokens", 9, right=True), Column("share", 7, right=True)]
    columns += [Column("bits each", 9, right=True), Column("", 0)]
    return Rows(columns, rows, width, explain)


def _worst(view: "Surprisal", tokenizer: "Tokenizer", width: int, top: int, explain: bool) -> Rows:
    places = view.worst(top)
    lines = lines_of(view, tokenizer, places)
    columns = [Column("line", 7, right=True), Column("worst places", 0), Column("bits", 6, right=True)]
    columns += [Column("rank", 6, right=True), Column("expected", 14 if width < 78 else 20)]
    room = width - sum(column.width for column in columns) - 2 * (len(columns) - 1)
    rows: list[Row] = []
    for place, line in zip(places, lines, strict=True):
        before = tokenizer.decode_bytes(view.ids[max(0, place - 40) : place].tolist())
        token = visible(tokenizer.token_bytes(int(view.ids[place])))
        found = Text(
            tail(one_line(before.decode("utf-8", "surrogateescape")), max(4, room - cell_len(token)))
        )
        found.append(token, style="bold red")
        share = float(np.exp(-view.best_nats[place - 1]))
        expected = visible(tokenizer.token_bytes(int(view.best[place - 1])))
        bits = float(view.bits[place - 1])
        rank = int(view.ranks[place - 1])
        sentence = (
            f"Here '{token}' had a chance of one in {2 ** min(bits, 60.0):,.0f}; '{expected}' would have been"
            f" the model's first choice."
        )
        cells: list[Cell] = [
            count(line),
            found,
            f"{bits:.2f}",
            count(rank),
            Text.assemble(expected, (f" {percent(share)}", "dim")),
        ]
        rows.append(Row(cells, sentence))
    return Rows(columns, rows, width, explain)


def lines_of(view: "Surprisal", tokenizer: "Tokenizer", places: list[int]) -> list[int]:
    """Return on which line of the text, counted from 1, the tokens in these places begin."""
    lines, line, reached = {}, 1, 0
    for place in sorted(places):
        line += tokenizer.decode_bytes(view.ids[reached:place].tolist()).count(b"\n")
        lines[place], reached = line, place
    return [lines[place] for place in places]


def _words(view: "Surprisal") -> str:
    return (
        f"{view.bits_per_byte:.4f} bits per byte and {view.nats_per_token:.4f} nats per token over"
        f" {count_of(len(view.nats), 'predicted token')}: the model is as unsure as if it chose each"
        f" token among {view.perplexity:,.1f} equally likely ones. In the text, the sign of a rank stands"
        " after its token."
    )

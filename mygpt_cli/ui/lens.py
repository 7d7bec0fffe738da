"""What the model would say after each layer, on the screen and as JSON."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.bar import Bar
from mygpt_cli.ui.columns import NARROWEST, ROOMY, WIDEST, fitting, light_table, percent
from mygpt_cli.ui.explain import explained
from mygpt_cli.ui.export import Export, Screen
from mygpt_cli.ui.shade import legend, shade
from mygpt_cli.ui.steps import PICKED
from mygpt_cli.ui.text import head, one_line, tail, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.lens import Guess, Position

LABEL = 9  # cells of a layer's name
LONGEST = 9  # cells of a token in the grid


def show_lens(
    views: Sequence["Position"], *, explain: bool = False, json: bool, to: Export | None = None
) -> None:
    """Write what the model would say after each layer: at all positions that fit, and at the last in full."""
    with Screen("the prediction after each layer", json=json, to=to) as screen:
        for view in views:
            screen.record(position_record(view))
        screen.show(*render_lens(views, screen.width, explain=explain))


def position_record(view: "Position") -> dict[str, Any]:
    """Return a position for JSON: tokens as text and as bytes in hexadecimal."""
    record = dataclasses.asdict(view)
    for part in (record, *record["guesses"]):
        part |= token_fields(part.pop("token"))
    return record | token_fields(record.pop("answer_token"), "answer_")


def token_fields(token: bytes, name: str = "") -> dict[str, str]:
    """Return a token for JSON, as text and as bytes in hexadecimal."""
    return {f"{name}text": token.decode("utf-8", "replace"), f"{name}bytes": token.hex()}


def render_lens(
    views: Sequence["Position"], width: int, *, explain: bool = False
) -> tuple[RenderableType, ...]:
    """Render the parts of the view for a screen of `width` cells (60 or more)."""
    last, narrow = views[-1], fitting(width)
    return (
        render_title("lens", [view.token for view in views], narrow),
        Text(),
        Grid(views, explain),
        Text(),
        _said(last),
        Text(),
        explained(_table(last, narrow), [_sentence(guess, last) for guess in last.guesses], explain=explain),
        Text(),
        Constrain(Text(_summary(last), style="dim"), WIDEST),
    )


def render_title(name: str, tokens: Sequence[bytes], width: int) -> Text:
    """Return the name of a view and the end of its text."""
    title = Text(f"{name}  ", style="bold")
    text = one_line(b"".join(tokens).decode("utf-8", "surrogateescape"))
    return title.append(tail(text, width - title.cell_len), style="not bold")


@dataclass(frozen=True)
class Grid:
    """The best token after each layer (rows), shaded by its probability, at the last positions (columns)."""

    views: Sequence["Position"]
    explain: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, cells = _fitting(self.views, max(NARROWEST, options.max_width))
        table = light_table(LABEL + len(shown) * (cells + 2))
        table.padding = 0  # the shades keep columns apart
        table.add_column("position\ntoken", width=LABEL)
        for view in shown:
            title = Text(f"{view.index}\n").append(head(visible(view.token), cells), style="bold not dim")
            table.add_column(title, width=cells + 1, no_wrap=True)
        for layer, guess in enumerate(shown[-1].guesses):
            row = [_cell(view.guesses[layer], view, cells, ascii_only=options.ascii_only) for view in shown]
            table.add_row(_name(guess), *row)
        table.add_row("decided", *(Text(str(view.decided), style="dim") for view in shown))
        yield explained(table, _grid_sentences(self.views), explain=self.explain)
        rest = len(self.views) - len(shown)
        if rest:
            yield Text(f"the last {len(shown):,} of {len(self.views):,} positions", style="dim")
        yield Text(legend(ascii_only=options.ascii_only), style="dim")


def _fitting(views: Sequence["Position"], width: int) -> tuple[Sequence["Position"], int]:
    """Return the last positions that there is room for, and how many cells their tokens get."""
    room = width - LABEL
    for cells in range(1, LONGEST + 1):
        shown = views[-(room // (cells + 2)) :]
        if max(map(_widest, shown)) <= cells:
            break
    return shown, cells


def _widest(view: "Position") -> int:
    tokens = [view.token, *(guess.token for guess in view.guesses)]
    return max(len(str(view.index)) - 1, *(cell_len(visible(token)) for token in tokens))


def _cell(guess: "Guess", view: "Position", cells: int, *, ascii_only: bool) -> Text:
    style = "green" if guess.id == view.answer else "dim"
    if guess.id == view.answer and guess.layer == view.decided:
        style = "bold green"
    return Text(
        shade(guess.probability, ascii_only=ascii_only) + head(visible(guess.token), cells), style=style
    )


def _name(guess: "Guess") -> str:
    return f"layer {guess.layer}" if guess.layer else "embedding"


def _grid_sentences(views: Sequence["Position"]) -> list[str]:
    sentences = []
    for guesses in zip(*(view.guesses for view in views), strict=True):
        decided = sum(view.decided <= guesses[0].layer for view in views)
        away = sum(guess.divergence for guess in guesses) / len(guesses)
        sentences.append(
            f"{decided:,} of {len(views):,} answers are decided; {away:.2f} bits from the end on average."
        )
    return [*sentences, "The layer from which on the best token stays the answer."]


def _said(view: "Position") -> Text:
    text = Text("after ", style="bold").append(visible(view.token)).append(f", position {view.index}: ")
    return text.append(visible(view.answer_token), style="green")


def _table(view: "Position", width: int) -> Table:
    digits = max(4, *(len(f"{guess.answer_rank:,}") for guess in view.guesses))
    roomy = width >= ROOMY
    table = light_table(width)
    table.add_column("  after", width=2 + LABEL)
    table.add_column(
        "token", width=11 if roomy else None, ratio=None if roomy else 1, no_wrap=True, overflow="ellipsis"
    )
    table.add_column("its own", width=7, justify="right")
    table.add_column("rank", width=digits, justify="right")
    table.add_column("share", width=6, justify="right")
    table.add_column("entropy", width=7, justify="right")
    table.add_column("away", width=6, justify="right")
    if roomy:
        table.add_column("", ratio=1, min_width=4, no_wrap=True, overflow="crop")
    for guess in view.guesses:
        right, first = guess.id == view.answer, guess.layer == view.decided
        row: list[RenderableType] = [
            f"{PICKED if first else ' '} {_name(guess)}",
            Text(visible(guess.token)),
            percent(guess.probability),
            f"{guess.answer_rank:,}",
            percent(guess.answer_probability),
            f"{guess.entropy:.2f}",
            f"{guess.divergence:.2f}",
        ]
        row += [Bar(guess.answer_probability, "green")] if roomy else []
        table.add_row(*row, style="bold green" if first else "green" if right else "")
    return table


def _sentence(guess: "Guess", view: "Position") -> str:
    start = "With the embedding alone" if guess.layer == 0 else f"Stopping after layer {guess.layer}"
    here, answer = one_word(guess.token), one_word(view.answer_token)
    if guess.layer == len(view.guesses) - 1:
        return f"The last layer is the model itself: {answer}, {percent(guess.probability)}."
    said = f"{start}, it would say {here} ({percent(guess.probability)})"
    if guess.id == view.answer:
        return f"{said}, the answer{'; from here on it stays that' if guess.layer == view.decided else ''}."
    return (
        f"{said}; its answer {answer} is number {guess.answer_rank:,} ({percent(guess.answer_probability)})."
    )


def one_word(token: bytes) -> str:
    """Return a token for a sentence: shown, in quotes, and not too long."""
    return f"‘{head(visible(token), 20)}’"


def _summary(view: "Position") -> str:
    place = f"layer {view.decided}" if view.decided else "the embedding"
    return (
        "Each row is what it would say next if it stopped there; rank and share are the final answer's there."
        f" {PICKED} From {place} on, it says {one_word(view.answer_token)}."
    )

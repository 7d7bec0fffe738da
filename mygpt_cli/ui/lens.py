"""What the model would say after each layer, on the screen and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from mygpt_cli.ui.columns import NARROWEST, ROOMY, fitting, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.rows import Cell, Column, Row, Rows, bar, closing, heading
from mygpt_cli.ui.shade import legend, shade
from mygpt_cli.ui.steps import PICKED
from mygpt_cli.ui.text import head, quoted, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.lens import Guess, Position

LABEL = 9  # cells of a layer's name
LONGEST = 9  # cells of a token in the grid


def show_lens(views: Sequence["Position"], how: Shown, page: dict[str, Any] | None = None) -> None:
    """Write what the model would say after each layer: at all positions that fit, and at the last in full.

    `page` is what a page shows.
    """
    with how.screen("the prediction after each layer") as screen:
        for view in views:
            screen.record(as_json(view))
        screen.show(*render_lens(views, screen.width, explain=how.explain))
        if page:
            screen.explore(page, "lens.js")


def render_lens(
    views: Sequence["Position"], width: int, *, explain: bool = False
) -> tuple[RenderableType, ...]:
    """Render the parts of the view for a screen of `width` cells (60 or more)."""
    last, narrow = views[-1], fitting(width)
    return (
        heading("lens", b"".join(view.token for view in views), narrow),
        Text(),
        Grid(views, explain),
        Text(),
        _said(last),
        Text(),
        _table(last, narrow, explain),
        Text(),
        closing(_summary(last)),
    )


@dataclass(frozen=True)
class Grid:
    """The best token after each layer (rows), shaded by its probability, at the last positions (columns)."""

    views: Sequence["Position"]
    explain: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, cells = _fitting(self.views, max(NARROWEST, options.max_width))
        columns = [Column("position\ntoken", LABEL)]
        for view in shown:
            title = Text(f"{view.index}\n").append(head(visible(view.token), cells), style="bold not dim")
            columns.append(Column(title, cells + 1))
        rows = [
            Row(
                [
                    _name(guess),
                    *(_cell(view.guesses[layer], view, cells, options.ascii_only) for view in shown),
                ]
            )
            for layer, guess in enumerate(shown[-1].guesses)
        ]
        rows.append(Row(["decided", *(Text(str(view.decided), style="dim") for view in shown)]))
        rows = [
            replace(row, sentence=told) for row, told in zip(rows, _grid_sentences(self.views), strict=True)
        ]
        # The shades keep columns apart.
        yield Rows(columns, rows, LABEL + len(shown) * (cells + 2), self.explain, gap=1)
        if (total := self.views[-1].index) > len(shown):
            yield Text(f"the last {len(shown):,} of {total:,} positions", style="dim")
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


def _cell(guess: "Guess", view: "Position", cells: int, ascii_only: bool) -> Text:
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
        are = "is" if decided == 1 else "are"
        sentences.append(
            f"{decided:,} of {len(views):,} answers {are} final;"
            f" on average {away:.2f} bits from the last layer's."
        )
    return [*sentences, "From this layer on, the best token is the final answer."]


def _said(view: "Position") -> Text:
    text = Text("after ", style="bold").append(visible(view.token)).append(f", position {view.index}: ")
    return text.append(visible(view.answer_token), style="green")


def _table(view: "Position", width: int, explain: bool) -> Rows:
    digits = max(4, *(len(f"{guess.answer_rank:,}") for guess in view.guesses))
    roomy = width >= ROOMY
    columns = [
        Column("  after", 2 + LABEL),
        Column("token", 11 if roomy else 0),
        Column("its own", 7, right=True),
        Column("rank", digits, right=True),
        Column("share", 6, right=True),
        Column("entropy", 7, right=True),
        Column("away", 6, right=True),
        *([Column("", 0)] if roomy else []),
    ]
    rows = []
    for guess in view.guesses:
        right, first = guess.id == view.answer, guess.layer == view.decided
        cells: list[Cell] = [
            f"{PICKED if first else ' '} {_name(guess)}",
            visible(guess.token),
            percent(guess.probability),
            f"{guess.answer_rank:,}",
            percent(guess.answer_probability),
            f"{guess.entropy:.2f}",
            f"{guess.divergence:.2f}",
        ]
        cells += [bar(guess.answer_probability, "green")] if roomy else []
        style = "bold green" if first else "green" if right else ""
        rows.append(Row(cells, _sentence(guess, view), style))
    return Rows(columns, rows, width, explain)


def _sentence(guess: "Guess", view: "Position") -> str:
    start = "With the embedding alone" if guess.layer == 0 else f"Stopping after layer {guess.layer}"
    here, answer = quoted(guess.token), quoted(view.answer_token)
    if guess.layer == len(view.guesses) - 1:
        return f"The last layer is the model itself: {answer}, {percent(guess.probability)}."
    said = f"{start}, it would say {here} ({percent(guess.probability)})"
    if guess.id == view.answer:
        return f"{said}, the answer{'; from here on it stays that' if guess.layer == view.decided else ''}."
    return (
        f"{said}; its answer {answer} is number {guess.answer_rank:,} ({percent(guess.answer_probability)})."
    )


def _summary(view: "Position") -> str:
    place = f"layer {view.decided}" if view.decided else "the embedding"
    return (
        "Each row is what it would say next if it stopped there; rank and share are the final answer's there."
        f" {PICKED} From {place} on, it says {quoted(view.answer_token)}."
    )

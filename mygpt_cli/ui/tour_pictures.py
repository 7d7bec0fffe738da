"""The pictures of the guided tour, one for each screen."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from mygpt_cli.ui.beams import render_tree
from mygpt_cli.ui.columns import percent
from mygpt_cli.ui.rows import Cell, Column, Drawn, Row, Rows, bar
from mygpt_cli.ui.steps import PICKED
from mygpt_cli.ui.text import tail, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.life import Head, LifeView, Stage
    from mygpt_cli.inspection.steps import StepView
    from mygpt_cli.inspection.tour import Tour

MOST = 8  # rows of a picture
NAME = 14
BAR = 24
Bars = Sequence[tuple[str, str, Cell]]


def stage_of(life: "LifeView", number: int, name: str, layer: int = 1) -> "Stage":
    """Return the numbers of a stage; those that each layer has, of this layer."""
    found = (stage for stage in life.stages if (stage.number, stage.name) == (number, name))
    return next(stage for stage in found if stage.layer in (None, layer))


def looking_head(life: "LifeView") -> "Head":
    """Return the head that looks most at one of the tokens before; any, where there are none."""

    def most(head: "Head") -> float:
        return max((at.weight for at in head.attended if at.position < life.position), default=0.0)

    return max(life.heads, key=most)


def kept(view: "StepView") -> int:
    """Return how many tokens the filters left."""
    return sum(candidate.cut_by is None for candidate in view.candidates) + view.others.kept


def _bars(rows: Bars, width: int, name: str = "", value: str = "") -> RenderableType:
    """Draw a bar for each row, after its name and its value; say above what these are, where it helps."""
    columns = [Column(name, NAME), Column(value, 9, right=True), Column("", min(BAR, width - NAME - 13))]
    return Rows(columns, [Row([*row]) for row in rows], width, header=bool(name or value))


def _signed(value: float, most: float) -> Drawn:
    """Return a cell with a bar to the left of its middle for a value below 0, and to its right above."""

    def draw(width: int, ascii_only: bool) -> Text:
        half = (width - 1) // 2
        length = round(abs(value) / most * half) if most else 0
        sign, middle = ("#", "|") if ascii_only else ("█", "│")
        left, right = (sign * length, "") if value < 0 else ("", sign * length)
        return Text(f"{left:>{half}}{middle}{right}", style="magenta" if value < 0 else "cyan")

    return draw


def _values(stage: "Stage", width: int) -> RenderableType:
    """Draw the first values of a vector."""
    most = max(map(abs, stage.values), default=0.0)
    rows = [
        (f"number {at}", f"{value:.3f}", _signed(value, most)) for at, value in enumerate(stage.values, 1)
    ]
    return _bars(rows, width, stage.name)


def text(tour: "Tour", width: int) -> RenderableType:
    """The text, cut into tokens."""
    before = tail(" │ ".join(map(visible, tour.tokens[:-1])), 2 * width - 24)
    shown = Text(f"{before} │ " if before else "", overflow="fold")
    return shown.append(f"{PICKED}{visible(tour.life.token)}", style="bold green")


def merges(tour: "Tour", width: int) -> RenderableType:
    """The bytes, and what was merged with what."""
    token = tour.life.token
    lines = [("bytes", " ".join(visible(token[at : at + 1]) for at in range(len(token))))]
    made = tour.life.merges if tour.life.merged else ()
    numbered = list(enumerate(made, 1))[-MOST:]
    lines += [(f"merge {at}", f"{visible(a)} + {visible(b)}") for at, (a, b) in numbered]
    lines += [("token", visible(token))]
    return Rows(
        [Column("", NAME), Column("", 0)], [Row([name, shown]) for name, shown in lines], width, header=False
    )


def number_line(tour: "Tour", width: int) -> RenderableType:
    """The id on the line of all ids."""
    life, room = tour.life, min(60, width)
    place = life.id * (room - 1) // max(1, life.vocab_size - 1)

    def line(cells: int, ascii_only: bool) -> Text:
        dash, mark = ("-", "^") if ascii_only else ("─", "▲")
        return Text.assemble((dash * place, "dim"), (mark, "bold green"), (dash * (room - 1 - place), "dim"))

    last = f"{life.vocab_size - 1:,}"
    ends = f"0{last:>{room - 1}}"
    return Rows([Column("", 0)], [Row([line]), Row([ends], style="dim")], width, header=False)


def embedding(tour: "Tour", width: int) -> RenderableType:
    """The first numbers of the token's vector."""
    return _values(stage_of(tour.life, 4, "embedding"), width)


def position(tour: "Tour", width: int) -> RenderableType:
    """The first numbers of the position's vector, or the first cosines of its angles."""
    names = ("position", "rotary cosines")
    stages = [one for one in tour.life.stages if one.number == 5 and one.name in names]
    return _values(stages[0], width) if stages else Text("This model is told no positions.")


def heads(tour: "Tour", width: int) -> RenderableType:
    """The lengths of queries, keys and values of the first layer's heads."""
    columns = [Column("layer 1", NAME)]
    columns += [Column(f"length of\n{name}", 10, right=True) for name in ("query", "key", "value")]
    rows = [
        Row([f"head {one.head}", f"{one.query:.2f}", f"{one.key:.2f}", f"{one.value:.2f}"])
        for one in [head for head in tour.life.heads if head.layer == 1][:MOST]
    ]
    return Rows([*columns, Column("", 0)], [Row([*row.cells, ""]) for row in rows], width)


def attention(tour: "Tour", width: int) -> RenderableType:
    """What the head that looks back most takes from where."""
    head = looking_head(tour.life)
    rows: list[tuple[str, str, Cell]] = [
        (visible(at.token), percent(at.weight), bar(at.weight))
        for at in sorted(head.attended, key=lambda at: at.position)
    ]
    rows += [("all others", percent(head.rest), bar(head.rest, "dim"))] if head.rest > 0 else []
    return _bars(rows, width)


def stream(tour: "Tour", width: int) -> RenderableType:
    """The length of the residual stream after each layer."""
    life = tour.life
    streams = [(at, stage_of(life, 8, "residual", at)) for at in range(1, life.layers + 1)]
    lengths = [(f"after layer {at}", stage.norm) for at, stage in streams]
    if len(lengths) > MOST:
        lengths = [*lengths[: MOST // 2], *lengths[-MOST // 2 :]]
    return _lengths(lengths, width)


def final_norm(tour: "Tour", width: int) -> RenderableType:
    """The length of the residual stream before and after the final norm."""
    life = tour.life
    before, after = stage_of(life, 8, "residual", life.layers), stage_of(life, 9, "final norm")
    return _lengths([("before", before.norm), ("after", after.norm)], width)


def _lengths(lengths: Sequence[tuple[str, float]], width: int) -> RenderableType:
    most = max((length for _, length in lengths), default=0.0) or 1.0
    return _bars(
        [(name, f"{length:.2f}", bar(length / most)) for name, length in lengths], width, value="length"
    )


def logits(tour: "Tour", width: int) -> RenderableType:
    """The highest logits."""
    listed = tour.life.choice.candidates
    most = max(abs(one.logit) for one in listed) or 1.0
    rows = [(visible(one.token), f"{one.logit:.2f}", _signed(one.logit, most)) for one in listed]
    return _bars(rows, width)


def softmax(tour: "Tour", width: int) -> RenderableType:
    """The highest probabilities, and all others together."""
    choice = tour.life.choice
    rows: list[tuple[str, str, Cell]] = [
        (visible(one.token), percent(one.probability), bar(one.probability)) for one in choice.candidates
    ]
    others = choice.others
    if others.count:
        rows.append((f"{others.count:,} more", percent(others.probability), bar(others.probability, "dim")))
    return _bars(rows, width)


def intervals(tour: "Tour", width: int) -> RenderableType:
    """All tokens end to end, and where the random number falls."""
    choice, room = tour.life.choice, min(72, width)

    def place(number: float) -> int:
        return min(room - 1, int(number * room))

    def line(cells: int, ascii_only: bool) -> Text:
        shown = Text()
        for cell in range(room):
            number = choice.draw if cell == place(choice.draw) else (cell + 0.5) / room
            found = [(at, one) for at, one in enumerate(choice.candidates, 1) if one.low <= number < one.high]
            for at, one in found[:1]:
                shown.append(str(at % 10), style="bold green" if one.picked else "cyan")
            if not found:
                shown.append("." if ascii_only else "·", style="dim")
        return shown

    def mark(cells: int, ascii_only: bool) -> Text:
        return Text(" " * place(choice.draw) + ("^" if ascii_only else "▲"), style="bold green")

    names = "   ".join(f"{at % 10}: {visible(one.token)}" for at, one in enumerate(choice.candidates, 1))
    rows = [Row([line]), Row([mark]), Row([f"0{1:>{room - 1}}"], style="dim"), Row([names])]
    return Rows([Column("", 0)], rows, width, header=False)


def temperatures(tour: "Tour", width: int) -> RenderableType:
    """The same candidates at several temperatures."""
    view = tour.temperatures
    each = max(4, min(BAR, (width - NAME) // len(view.temperatures) - 11))
    columns = [Column("token", NAME)]
    for degree in view.temperatures:
        columns += [Column(f"{degree:g}", 6, right=True), Column("", each)]
    rows = []
    for one in view.candidates:
        cells: list[Cell] = [visible(one.token)]
        for share in one.probabilities:
            cells += [percent(share), bar(share)]
        rows.append(Row([*cells, ""]))
    return Rows([*columns, Column("", 0)], rows, width, gap=1)


def cuts(tour: "Tour", width: int) -> RenderableType:
    """What top-k and top-p leave of the candidates."""
    views = tour.top_k, tour.top_p
    by_id = [{one.id: one for one in view.candidates} for view in views]
    listed = [one for one in tour.life.choice.candidates if all(one.id in found for found in by_id)]
    columns = [Column("token", NAME)]
    columns += [Column(name, 10, right=True) for name in ("model", "top-k 3", "top-p 0.9")]
    rows = []
    for one in listed:
        left = [found[one.id] for found in by_id]
        cells = ["cut" if at.cut_by else percent(at.final_probability) for at in left]
        rows.append(Row([visible(one.token), percent(one.probability), *cells, ""]))
    if more := tour.life.vocab_size - len(listed):
        cells = [percent(max(0.0, 1 - sum(one.probability for one in listed)))]
        for view, found in zip(views, by_id, strict=True):
            shown = [found[one.id] for one in listed]
            is_cut = kept(view) == sum(at.cut_by is None for at in shown)
            cells.append("cut" if is_cut else percent(1 - sum(at.final_probability for at in shown)))
        rows.append(Row([f"{more:,} more", *cells, ""], style="dim"))
    return Rows([*columns, Column("", 0)], rows, width)


def beams(tour: "Tour", width: int) -> RenderableType:
    """The texts that beam search followed, with their scores."""
    return render_tree(tour.beams, width)


PICTURES: tuple[Callable[["Tour", int], RenderableType], ...] = (
    text,
    merges,
    number_line,
    embedding,
    position,
    heads,
    attention,
    stream,
    final_norm,
    logits,
    softmax,
    intervals,
    temperatures,
    cuts,
    beams,
)

"""A checkpoint beside all that were kept of a run, on the screen: a row and a point of a curve for each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from mygpt_cli.checkpoints.runs import KEPT
from mygpt_cli.ui.chart import Chart, Line, Panel, Point, value_range
from mygpt_cli.ui.columns import WIDEST, pack, percent
from mygpt_cli.ui.compare import render_sides
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.pages.kept import kept_page
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.rows import Cell, Column, Row, Rows, bar, closing
from mygpt_cli.ui.text import quoted, visible
from mygpt_cli.ui.units import count

if TYPE_CHECKING:
    from mygpt_cli.inspection.compare import Shift
    from mygpt_cli.inspection.kept import Moment

STEP, PART = 9, 9  # cells
COLOURS = ("cyan", "magenta", "green", "blue", "red", "yellow")  # which is hard to read on white


def show_kept(moments: Sequence["Moment"], how: Shown) -> None:
    """Write what each checkpoint makes of what was asked; the last is the one that all are compared with."""
    with how.screen("the history of a run") as screen:
        for moment in moments:
            screen.record(as_json(moment))
        screen.show(*render_kept(moments, screen.width, explain=how.explain))
        if screen.page:
            own = _run(moments[-1]) == _run(moments[0])
            screen.explore(kept_page(moments, _words(moments), own=own), "chart.js", "kept.js")


def render_kept(moments: Sequence["Moment"], width: int, *, explain: bool = False) -> list[RenderableType]:
    """Render a curve and a table of checkpoints, for 60 cells or more."""
    width, last = min(width, WIDEST), moments[-1]
    parts: list[RenderableType] = [*render_sides([(last.folder, last.step)]), Text()]
    if not moments[0].same_tokens:
        parts += [Text("The tokenizers differ, so only bits per byte and weights can be compared."), Text()]
    if chart := _chart(moments):
        parts += [chart, Text()]
    if last.answer and moments[0].answer:
        parts += [_answers(moments, width, explain), Text()]
    elif last.bits_per_byte is not None:
        parts += [_losses(moments, width, explain), Text()]
    else:
        for table in _weights(moments, width, explain):
            parts += [table, Text()]
        parts += [] if moments[0].parts else [Text("They have no tensor in common."), Text()]
    return [*parts, closing(_words(moments))]


def _chart(moments: Sequence["Moment"]) -> Chart | None:
    """Draw over the steps what was kept at each; None where fewer than two steps are known.

    The last is the end of the curve, unless its steps are those of another run.
    """
    last = moments[-1]
    if _run(last) != _run(moments[0]):
        moments = moments[:-1]
    curves: dict[str, list[tuple[int | None, float | None]]]
    if last.answer and moments[0].answer:
        label = f"probability of {quoted(last.answer.token)}"
        curves = {"": [(m.step, m.answer.other_probability) for m in moments if m.answer]}
    elif last.bits_per_byte is not None:
        label, curves = "bits per byte", {"": [(m.step, m.bits_per_byte) for m in moments]}
    else:
        label = "distance to A, as a share of its length"
        curves = {
            part.name: [
                (m.step, share.share) for m in moments for share in m.parts if share.name == part.name
            ]
            for part in last.parts
        }
    lines = []
    for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
        known: list[Point] = sorted({(x, y) for x, y in points if x is not None and y is not None})
        if len({x for x, _ in known}) > 1:
            lines.append(Line(name, known, colour, "points"))
    if not lines:
        return None
    low, high = value_range([y for line in lines for _, y in line.points])
    low = low if last.bits_per_byte is not None and not last.answer else 0.0
    end = max(x for line in lines for x, _ in line.points)
    return Chart("kept checkpoints", "steps", end, [Panel(label, lines, low, high)], legend=len(lines) > 1)


def _run(moment: "Moment") -> Path:
    """Return the folder of the run that a checkpoint is in: what holds `last/`, or `kept/` with its steps."""
    folder = Path(moment.folder).parent
    return folder.parent if folder.name == KEPT else folder


def _name(moment: "Moment", last: "Moment") -> str:
    step = "?" if moment.step is None else count(moment.step)
    return f"A {step}" if moment is last else step


def _answers(moments: Sequence["Moment"], width: int, explain: bool) -> Rows:
    columns = [
        Column("step", STEP, right=True),
        Column("answer", 7, right=True),
        Column("", 0),
        Column("says", 16),
        Column("", 6, right=True),
        Column("away", 6, right=True),
    ]
    rows = []
    for moment in moments:
        answer, says = moment.answer, moment.says
        if answer is None or says is None:
            continue
        right = says.id == answer.id
        share, own = percent(answer.other_probability), percent(says.other_probability)
        divergence = max(0.0, moment.divergence or 0.0)
        cells: list[Cell] = [_name(moment, moments[-1]), share, bar(answer.other_probability, "green")]
        cells += [visible(says.token), own, f"{divergence:.2f}"]
        if moment is moments[-1]:
            sentence = f"A itself says {quoted(answer.token)}, with {share}."
        else:
            sentence = _sentence(answer, says, divergence)
        rows.append(Row(cells, sentence, "green" if right else ""))
    return Rows(columns, rows, width, explain)


def _sentence(answer: "Shift", says: "Shift", divergence: float) -> str:
    """Say what a checkpoint answers, and how that compares with A."""
    share = percent(answer.other_probability)
    if says.id == answer.id:
        told = f"it says {quoted(answer.token)} too, the answer of A, with {share}"
    else:
        told = f"it says {quoted(says.token)} ({percent(says.other_probability)});"
        told += f" {quoted(answer.token)}, the answer of A, has {share}"
    return f"At this step {told}, and its predictions diverge from those of A by {divergence:.2f} bits."


def _losses(moments: Sequence["Moment"], width: int, explain: bool) -> Rows:
    columns = [
        Column("step", STEP, right=True),
        Column("bits per byte", 13, right=True),
        Column("nats per token", 14, right=True),
        Column("", 0),
    ]
    most = max(moment.bits_per_byte or 0.0 for moment in moments) or 1.0
    rows = []
    for moment in moments:
        bits, nats = moment.bits_per_byte or 0.0, moment.nats_per_token
        shown = "" if nats is None else f"{nats:.4f}"
        change = bits - (moments[-1].bits_per_byte or 0.0)
        more = f"{abs(change):.4f} {'more' if change > 0 else 'fewer'} than A" if change else "as many as A"
        sentence = f"It takes {bits:.4f} bits for each byte of the text, {more}."
        rows.append(Row([_name(moment, moments[-1]), f"{bits:.4f}", shown, bar(bits / most)], sentence))
    return Rows(columns, rows, width, explain)


def _weights(moments: Sequence["Moment"], width: int, explain: bool) -> Iterator[Rows]:
    if not (names := [part.name for part in moments[0].parts]):
        return
    heads = [
        Column("\n".join(name.split()), max(PART, *map(len, name.split())), right=True) for name in names
    ]
    for part in pack([head.width for head in heads], width - STEP, 1):
        rows = []
        for moment in moments:
            shares = {
                moved.name: "" if moved.share is None else percent(moved.share) for moved in moment.parts
            }
            shown = [shares.get(names[at], "") for at in part]
            told = ", ".join(f"{names[at]} {shares.get(names[at]) or 'unknown'}" for at in part)
            rows.append(Row([_name(moment, moments[-1]), *shown], f"How far it is from A: {told}."))
        columns = [Column("step", STEP, right=True), *(heads[at] for at in part)]
        yield Rows(columns, rows, width, explain, gap=1)


def _words(moments: Sequence["Moment"]) -> str:
    words = "Each row is a checkpoint that was kept, the last one A, with which all are compared. "
    if moments[-1].answer and moments[0].answer:
        return words + "The answer is what A says; away: how many bits its prediction differs from A's."
    if moments[-1].bits_per_byte is not None:
        return words + "Fewer bits per byte: the text surprises it less."
    return (
        words + "The shares are how far the weights of each part are from those of A, over the length of A's."
    )

"""The life of a token, stage by stage, as tables."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.columns import fitting, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.rows import INDENT, Column, Row, Rows, closing, heading
from mygpt_cli.ui.steps import render_choice, render_settings, settings_record
from mygpt_cli.ui.text import head, quoted, visible

if TYPE_CHECKING:
    from mygpt_cli.config.sampling import Sampling
    from mygpt_cli.inspection.life import Attended, Head, LifeView, Stage

NUMBER, NAME, SHAPE, NORM, COSINE, VALUE = 2, 14, 9, 8, 5, 7  # cells of each column
BEFORE_VALUES = NUMBER + NAME + SHAPE + NORM + COSINE + 5
NORMS = ("query", "key", "value", "output")
BEFORE_ATTENDED = NUMBER + 4 + 7 * len(NORMS) + 2
WIDEST_TOKEN = 12


def show_life(view: "LifeView", sampling: "Sampling", how: Shown, page: dict[str, Any] | None = None) -> None:
    """Write the life of a token; `page` is what a page shows."""
    with how.screen("the life of a token") as screen:
        record = as_json(view)
        record["merges"] = [[left.hex(), right.hex()] for left, right in view.merges]
        record["choice"] |= settings_record(sampling)
        screen.record(record)
        screen.show(render_settings(sampling), Text())
        screen.show(render_life(view, screen.width, explain=how.explain))
        if page:
            screen.explore(page, "bars.js", "life.js")


def render_life(view: "LifeView", width: int, *, explain: bool = False) -> RenderableType:
    """Render the stages of a token for a screen of `width` cells (60 or more)."""
    width = fitting(width)
    layers = sorted({stage.layer for stage in view.stages if stage.layer is not None})
    before = [stage for stage in view.stages if stage.number < 6]
    after = [stage for stage in view.stages if stage.number > 8]
    title = heading(f"position {view.position:,} of {view.length:,}", view.context, width)
    parts: list[RenderableType] = [title, Text(), *_beginning(view, explain=explain), Text()]
    parts += [_stages(view, before, width, header=True, explain=explain), Text()]
    for layer in layers:
        here = [stage for stage in view.stages if stage.layer == layer]
        heads = [head for head in view.heads if head.layer == layer]
        parts += [
            Text(f"layer {layer} of {view.layers}", style="bold"),
            _stages(view, [stage for stage in here if stage.number == 6], width, explain=explain),
            Text(),
            _heads(heads, width, explain=explain),
            Text(),
            _stages(view, [stage for stage in here if stage.number > 6], width, last=7, explain=explain),
            Text(),
        ]
    parts += [Text("prediction", style="bold"), _stages(view, after, width, explain=explain)]
    parts += [
        Text.assemble(("12", "dim"), f" {'choice':<{NAME}} ", visible(view.choice.picked.token)),
        Text(),
    ]
    parts += [render_choice(view.choice, width, explain=explain), Text(), *_end(view)]
    return Group(*parts)


def _beginning(view: "LifeView", *, explain: bool) -> Iterator[RenderableType]:
    """Render the stages that are text: the token, its bytes and how they were merged, its id."""
    for number, name, shown, sentence in (
        (1, "text", visible(view.token), "The piece of the text that this token stands for."),
        (
            2,
            "bytes",
            f"{view.token.hex(' ').upper()}  {origin_of(view)}",
            "The text as UTF-8, and what made it one token.",
        ),
        (3, "token id", f"{view.id} of 0 to {view.vocab_size - 1}", "Its number: all that the model gets."),
    ):
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_column(width=NUMBER, justify="right", style="dim")
        row.add_column(width=NAME)
        row.add_column(overflow="fold")
        row.add_row(str(number), name, Text(shown))
        yield row
        if explain:
            yield Padding(Text(sentence, style="dim italic"), (0, 0, 0, INDENT))


def origin_of(view: "LifeView") -> str:
    """Say what made the token one."""
    if view.tokenizer == "char":
        return "one character is one token"
    if len(view.token) == 1:
        return "one byte is one token"
    if view.merged:
        return ", ".join(f"{visible(left)} + {visible(right)}" for left, right in view.merges)
    return "looked up as a whole"


def _stages(
    view: "LifeView",
    stages: "Sequence[Stage]",
    width: int,
    *,
    last: int = 0,
    header: bool = False,
    explain: bool = False,
) -> RenderableType:
    """Render stages as rows, numbered where the number is not that of the `last` one."""
    columns = [
        Column("", NUMBER, right=True, style="dim"),
        Column("stage", NAME),
        Column("shape", SHAPE, right=True, style="dim"),
        Column("norm", NORM, right=True),
        Column("cos", COSINE, right=True),
        Column("  first values", 0, style="dim"),
    ]
    rows = []
    for stage in stages:
        number = "" if stage.number == last else str(stage.number)
        last = stage.number
        shape = " × ".join(map(str, stage.shape))
        cosine = "" if stage.cosine is None else f"{stage.cosine:.2f}"
        values = _values(stage, width - BEFORE_VALUES)
        name = Text(stage.name, "bold" if stage.name == "residual" else "")
        rows.append(
            Row([number, name, shape, number_of(stage.norm), cosine, values], sentence_of(view, stage))
        )
    return Rows(columns, rows, width, explain, gap=1, header=header)


def _values(stage: "Stage", room: int) -> str:
    if stage.active is not None:
        return f"  {stage.active:,} active"
    return "".join(f"{number_of(value):>{VALUE}}" for value in stage.values[: room // VALUE])


def number_of(value: float) -> str:
    """Write a number in at most 6 cells, or 7 with its sign, as exactly as that allows."""
    size = abs(value)
    if 0 < size < 0.005:
        return f"{value:.0e}"
    return f"{value:.2f}" if size < 100 else f"{value:.1f}" if size < 999.95 else f"{value:.0e}"


def _heads(heads: "Sequence[Head]", width: int, *, explain: bool) -> RenderableType:
    columns = [Column("", NUMBER, right=True, style="dim"), Column("head", 4, right=True)]
    columns += [Column(name, 6, right=True) for name in NORMS]
    rows = []
    for one in heads:
        norms = [number_of(norm) for norm in (one.query, one.key, one.value, one.output)]
        number = "7" if one is heads[0] else ""
        attended = _attended(one.attended, width - BEFORE_ATTENDED)
        rows.append(Row([number, str(one.head), *norms, attended], _sentence_on(one)))
    return Rows([*columns, Column("share token position", 0)], rows, width, explain, gap=1)


def _attended(attended: "Sequence[Attended]", room: int) -> Text:
    """Write as many of the tokens that a head looks at as there is room for: share, token, position."""
    line = Text()
    for one in attended:
        token = head(visible(one.token), WIDEST_TOKEN)
        entry = Text.assemble((percent(one.weight), ""), f" {token}", (f" {one.position:,}", "dim"))
        if line and line.cell_len + 2 + entry.cell_len > room:
            break
        line = Text("  ").join((line, entry)) if line else entry
    return line


def _sentence_on(one: "Head") -> str:
    listed = ", ".join(
        f"{percent(at.weight)} from {quoted(at.token)} at position {at.position:,}" for at in one.attended
    )
    rest = f", {percent(one.rest)} from all others" if one.rest > 0 else ""
    return f"Head {one.head} takes {listed}{rest}."


def sentence_of(view: "LifeView", stage: "Stage") -> str:
    """Say in words what happens at a stage."""
    kind = "mean 0, spread 1" if view.norm == "layer" else "brought to a fixed length"
    kind += ", then a learned gain" if view.norm_gain else ""
    rotates = view.positions == "rotary" and stage.layer not in view.unrotated
    steps = ["rotated by position"] if rotates else []
    if view.qk_norm != "none":
        normed = "brought to a fixed length" + (" with a learned gain" if view.qk_norm_gain else "")
        steps.insert(0 if view.qk_norm == "before" else 1, normed)
    rotated = f", {' and '.join(steps)}" if steps else ""
    shared = f", which {view.sharing} heads share," if view.sharing > 1 else ""
    but = f", but for {len(view.unrotated)} of them" if view.unrotated else ""
    gated = " of the gate, times what comes in" if view.gated else ""
    told = {
        "embedding": f"Row {view.id} of the token table: what the model has learned about this token.",
        "position": "The row of the position table for this place, which is added.",
        "rotary cosines": f"The angles of this place, by which each layer rotates queries and keys{but}.",
        "norm": f"A copy of the residual stream, {kind}.",
        "query": f"What each head looks for{rotated}.",
        "key": f"What each head of keys{shared} can be found by{rotated}.",
        "value": f"What each head of values{shared} hands over to those that find it.",
        "attention": "What the heads gathered, mixed together, to be added.",
        "gate": f"What opens or closes each unit, before {view.activation}.",
        "units": f"The feed-forward units after {view.activation}{gated}; active are those above 0.",
        "feed-forward": "What the units write, to be added.",
        "final norm": f"The residual stream for the last time, {kind}.",
        "logits": "A score for every token of the vocabulary that could come next.",
        "soft cap": f"The scores squeezed softly between -{view.softcap:g} and {view.softcap:g}.",
        "softmax": "The scores as probabilities, which sum to 1.",
    }
    if stage.name == "residual":
        added = {5: "Embedding and position", 7: "The stream and the attention"}
        return f"{added.get(stage.number, 'The stream and the feed-forward part')}, added up."
    if stage.number == 5 and stage.name == "norm":
        return f"The embedding, {kind}: it tells no position yet."
    return told.get(stage.name, f"What {stage.name} computes.")


def _end(view: "LifeView") -> Iterator[RenderableType]:
    if view.follows:
        follows = view.follows
        told = f"The text goes on with {quoted(follows.token)}: the model's number {follows.rank:,},"
        yield Text(f"{told} with {percent(follows.probability)}.")
    yield Text(
        "Recomputed from these stages, no logit differs from the model's own by more than"
        f" {view.difference:.1e}."
    )
    yield Text()
    yield closing(
        "Each row is what the model makes of this one token at a stage: its length (norm), how nearly it"
        " points where the stream before it did (cos), and where each head looks. Of a head, query, key,"
        " value and output are lengths as well."
    )

"""Two checkpoints side by side, on the screen."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from mygpt_cli.ui.columns import WIDEST, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.pages.compare import compare_page
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.rows import Column, Row, Rows, bar, closing
from mygpt_cli.ui.surprisal import surprisal_record
from mygpt_cli.ui.text import one_line, tail, visible
from mygpt_cli.ui.units import count, count_of
from mygpt_cli.ui.weights import short, tensor_name

if TYPE_CHECKING:
    from mygpt_cli.inspection.compare import Comparison
    from mygpt_cli.inspection.surprisal import Surprisal
    from mygpt_cli.tokens.tokenizer import Tokenizer

    Texts = tuple[Surprisal, Surprisal]

SURELY = 2.0  # standard errors


def show_compare(view: "Comparison", tokenizer: "Tokenizer", how: Shown) -> None:
    """Write how two checkpoints differ."""
    with how.screen("two checkpoints") as screen:
        record = as_json(replace(view, texts=None))
        record["texts"] = [surprisal_record(text) for text in view.texts or ()]
        record["changes"] = None if view.changes is None else view.changes.tolist()
        for shift, there in zip(record["next"], view.next, strict=True):
            shift["change"] = there.change
        for tensor, moved in zip(record["tensors"], view.tensors, strict=True):
            tensor["share"] = moved.share
        screen.record(record)
        screen.show(*render_compare(view, tokenizer, screen.width, top=how.top, explain=how.explain))
        if screen.page:
            screen.explore(compare_page(view, tokenizer, verdict_of(view)), "chart.js", "compare.js")


def render_compare(
    view: "Comparison", tokenizer: "Tokenizer", width: int, *, top: int, explain: bool = False
) -> list[RenderableType]:
    """Render what moved between two checkpoints, the `top` tokens that moved most, for 60 cells or more."""
    width = min(width, WIDEST)
    parts: list[RenderableType] = [*render_sides([(side.folder, side.step) for side in view.sides])]
    if not view.same_tokens:
        parts += [Text(), Text("Their tokenizers differ, so only bits per byte and weights can be compared.")]
    if view.texts:
        parts += [Text(), _losses(view.texts, view.same_tokens, width, explain)]
    if view.next:
        parts += [Text(), _next(view, width, explain)]
    if view.texts and view.changes is not None and view.changes.any():
        parts += [Text(), _tokens(view.texts, view.changes, tokenizer, width, top, explain)]
    parts += [Text(), _weights(view, width, explain)]
    return [*parts, Text(), closing(verdict_of(view))]


def render_sides(sides: Iterable[tuple[str, int | None]]) -> list[Text]:
    """Name checkpoints, each with its folder and its step, by letters."""
    lines = []
    for name, (folder, step) in zip("AB", sides, strict=False):
        at = "" if step is None else f", step {count(step)}"
        lines.append(Text.assemble((f"{name}  ", "bold"), one_line(folder), (at, "dim"), overflow="fold"))
    return lines


def _losses(texts: "Texts", same_tokens: bool, width: int, explain: bool) -> Rows:
    columns = [Column("over the text", 0), *(Column(name, 10, right=True) for name in ("A", "B", "B - A"))]
    first, other = texts
    rows = []
    for name, sentence in (
        ("bits per byte", "How many bits each byte of the text takes: lower is better, whatever the tokens."),
        ("nats per token", "The mean loss over this text, in the unit of training."),
        ("perplexity", "As hard as guessing among this many equally likely tokens."),
    ):
        if name == "bits per byte" or same_tokens:
            a, b = (getattr(side, name.replace(" ", "_")) for side in (first, other))
            rows.append(Row([name, f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}"], sentence))
    tokens = len(first.nats), len(other.nats)
    sentence = "How many tokens were predicted: all but the first."
    rows.append(Row(["tokens", *map(count, tokens), f"{tokens[1] - tokens[0]:+,}"], sentence))
    return Rows(columns, rows, width, explain)


def _next(view: "Comparison", width: int, explain: bool) -> Rows:
    columns = [Column("next token", 16), *(Column(name, 7, right=True) for name in ("A", "B", "B - A"))]
    columns.append(Column("B", 0))
    rows = []
    for shift in view.next:
        token = visible(shift.token)
        sentence = f"'{token}' goes from {percent(shift.probability)} to {percent(shift.other_probability)}."
        shares = percent(shift.probability), percent(shift.other_probability)
        rows.append(Row([token, *shares, f"{shift.change:+.1%}", bar(shift.other_probability)], sentence))
    return Rows(columns, rows, width, explain)


def _tokens(
    texts: "Texts", changes: np.ndarray, tokenizer: "Tokenizer", width: int, top: int, explain: bool
) -> Rows:
    columns = [Column("tokens that moved most", 0)]
    columns += [Column(name, 8, right=True) for name in ("A bits", "B bits", "B - A")]
    rows = []
    order = np.argsort(-np.abs(changes), kind="stable")[: min(top, np.count_nonzero(changes))]
    for index in order.tolist():
        before = tokenizer.decode_bytes(texts[0].ids[max(0, index - 39) : index + 1].tolist())
        token = visible(tokenizer.token_bytes(int(texts[0].ids[index + 1])))
        shown = Text(
            tail(one_line(before.decode("utf-8", "surrogateescape")), max(4, width - 30 - cell_len(token)))
        )
        shown.append(token, style="bold")
        a, b = (float(text.bits[index]) for text in texts)
        better = "less" if b < a else "more" if b > a else "as much"
        sentence = f"B is {better} surprised by '{token}' here {'than' if a != b else 'as'} A."
        rows.append(Row([shown, f"{a:.2f}", f"{b:.2f}", f"{b - a:+.2f}"], sentence))
    return Rows(columns, rows, width, explain)


def _weights(view: "Comparison", width: int, explain: bool) -> Rows:
    columns = [Column(name, 9, right=True) for name in ("norm A", "norm B", "distance", "cosine")]
    rows = []
    for tensor in view.tensors:
        share = tensor.share
        cosine = "" if tensor.cosine is None else f"{tensor.cosine:.4f}"
        numbers = (tensor.norm, tensor.other_norm, tensor.distance)
        moved = "by all of its length" if share is None else f"by {percent(share)} of its length"
        sentence = f"It moved {moved}; a cosine of 1 means that it kept its direction."
        rows.append(Row([tensor_name(tensor.name, tensor.shape)]))
        rows.append(Row([*map(short, numbers), cosine, bar(min(1.0, share or 0.0))], sentence))
    rows += [
        Row([Text(f"{one_line(name)}: not in both, or of another shape", style="dim")])
        for name in view.unlike
    ]
    return Rows([*columns, Column("moved", 0)], rows, width, explain)


def verdict_of(view: "Comparison") -> str:
    """Say what the comparison comes to."""
    words = []
    if view.texts:
        words.append(_verdict(view, view.texts))
    if view.divergence is not None:
        words.append(f"Their next tokens diverge by {max(0.0, view.divergence):.4f} bits.")
    total = sum(tensor.norm**2 for tensor in view.tensors) ** 0.5
    apart = sum(tensor.distance**2 for tensor in view.tensors) ** 0.5
    if total:
        words.append(
            f"Over {count_of(len(view.tensors), 'tensor')} that both have, the weights moved by"
            f" {percent(apart / total)} of their length."
        )
    return " ".join(words) or "They have no tensor in common."


def _verdict(view: "Comparison", texts: "Texts") -> str:
    """Say which of the two predicts the text better, as far as so much text can tell."""
    change = texts[1].bits_per_byte - texts[0].bits_per_byte
    if not change:
        return "B predicts the text as well as A."
    by = f"{abs(change):.4f} bits per byte"
    if (error := view.standard_error) is None:
        fewest = min(len(text.nats) for text in texts)
        return (
            f"B takes {by} {'fewer' if change < 0 else 'more'} than A, but {count_of(fewest, 'token')} "
            "are too few to say which is better: --text FILE takes more."
        )
    if abs(change) < SURELY * error:
        return f"The text is too short to tell which of them predicts it better: {by} apart, ± {error:.4f}."
    return f"B predicts the text {'better' if change < 0 else 'worse'} than A, by {by} (± {error:.4f})."

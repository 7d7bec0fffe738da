"""What a checkpoint is, as a table."""

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.bar import Bar
from mygpt_cli.ui.columns import WIDEST, light_table, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.history import render_history, state_of
from mygpt_cli.ui.pages.run import run_page
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.text import one_line
from mygpt_cli.ui.units import count_of, duration

if TYPE_CHECKING:
    from mygpt_cli.inspection.history import RunHistory
    from mygpt_cli.inspection.summary import Summary, TokenizerFacts, Training
    from mygpt_cli.model.config import ModelConfig

SHOWN = 5  # tokens that are named


def show_summary(summary: "Summary | None", history: "RunHistory | None", how: Shown) -> None:
    """Write how the run has gone, where there is one, and what its checkpoint is, once there is one."""
    record: dict[str, Any] = {"folder": history.folder if history else ""}
    record |= as_json(summary) if summary else {}
    record["history"] = as_json(history) | {"share": history.share} if history else None
    title = f"run {history.folder}" if history else f"checkpoint {record['folder']}"
    with how.screen(title) as screen:
        screen.record(record)
        if history:
            screen.show(*render_history(history))
        if summary:
            screen.show(render_summary(summary, screen.width))
        if screen.page:
            state = state_of(history) if history else ""
            facts = _facts(summary) if summary else ()
            screen.explore(run_page(history, state, summary, facts), "chart.js", "run.js")


def render_summary(summary: "Summary", width: int) -> RenderableType:
    """Render a checkpoint's description for a screen of `width` cells, 60 or more."""
    facts = Table.grid(padding=(0, 2), pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for name, lines in _facts(summary):
        facts.add_row(name, Text("\n".join(lines)))
    title = Text(one_line(summary.folder), style="bold", overflow="fold")
    return Group(title, Text(), facts, Text(), _parts(summary, min(width, WIDEST)))


def _facts(summary: "Summary") -> list[tuple[str, list[str]]]:
    return [
        ("model", _model(summary.model)),
        ("tokenizer", _tokenizer(summary.tokenizer)),
        ("training", _training(summary.training)),
    ]


def _model(model: "ModelConfig") -> list[str]:
    heads = f"{count_of(model.heads, 'head')} of {model.head_width}"
    if model.kv_heads != model.heads:
        heads += f", {model.kv_heads} of keys and values"
    norm = {"layer": "LayerNorm", "rms": "RMSNorm"}[model.norm]
    norm += "" if model.qk_norm == "none" else ", query/key norm"
    head = "tied head" if model.tied else "untied head"
    cap = f", logits capped at {model.softcap:g}" if model.softcap else ""
    scale = ", attention divided by the layer's number" if model.scale_by_layer else ""
    scale += "" if model.scale_by_width else ", attention not divided by the root of the head width"
    units = f"{model.mlp_width:,} ({'gated by ' if model.gated else ''}{model.activation})"
    cut = f" of {model.full_context:,}" if model.full_context else ""
    return [
        f"{model.arch}: {count_of(model.layers, 'layer')}, {heads}, width {model.width}",
        f"context {model.context:,}{cut} tokens, feed-forward {units}",
        *_windows(model),
        f"{model.positions} positions{_rotation(model)}, {norm}{scale}",
        f"{head}{cap}",
    ]


def _windows(model: "ModelConfig") -> list[str]:
    """Say how far attention looks back, where that is less than the context."""
    if model.within_windows == model.context:
        return []
    windowed = len(model.windowed)
    some = "" if windowed == model.layers else f" in {count_of(windowed, 'layer')}"
    return [f"attention looks back {model.window:,} tokens{some}"]


def _rotation(model: "ModelConfig") -> str:
    """Say what is special about the rotation of queries and keys."""
    parts = []
    if scaling := model.rope_scaling:
        parts.append(f"{scaling.kind} scaling by {scaling.factor:g}")
    if model.unrotated:
        parts.append(f"none in {count_of(len(model.unrotated), 'layer')}")
    return f" ({', '.join(parts)})" if parts else ""


def _tokenizer(tokenizer: "TokenizerFacts") -> list[str]:
    kind = {"char": "characters", "bpe": "byte pairs"}.get(tokenizer.kind, tokenizer.kind)
    lines = [f"{one_line(kind)}, {tokenizer.vocab_size:,} tokens, {_ends(tokenizer)}"]
    if tokenizer.prefix:
        lines.append(f"each text begins with {' and '.join(map(str, tokenizer.prefix))}")
    if tokenizer.padding:
        lines.append(
            f"the model has {tokenizer.padding:,} more ids, which it may choose and which have no text"
        )
    if tokenizer.missing:
        missing = ", ".join(f"'{one_line(text)}'" for text in tokenizer.missing[:SHOWN])
        more = len(tokenizer.missing) - SHOWN
        lines.append(f"the model does not have {missing}" + (f" and {more:,} more" if more > 0 else ""))
    return lines


def _ends(tokenizer: "TokenizerFacts") -> str:
    ends = [str(end) for end in tokenizer.ends]
    if len(ends) > SHOWN:
        ends = [*ends[:SHOWN], f"{len(ends) - SHOWN:,} more"]
    if len(ends) > 1:
        return f"each of {', '.join(ends[:-1])} and {ends[-1]} ends a text"
    if ends:
        return f"end of text is {ends[0]}"
    return "no end-of-text token" if tokenizer.end_of_text is None else "no token ends a text"


def _training(training: "Training | None") -> list[str]:
    if training is None:
        return ["not trained by mygpt: nothing is recorded"]
    step = "step unknown" if training.step is None else f"step {training.step:,}"
    step += "" if training.steps is None else f" of {training.steps:,}"
    step += "" if training.tokens is None else f", {training.tokens:,} tokens seen"
    step += "" if training.seconds is None else f", {duration(training.seconds)}"
    lines = [step]
    if training.train_loss is not None:
        since = "" if training.train_from is None else f", the mean since step {training.train_from:,}"
        lines.append(f"training loss {training.train_loss:.4f} nats per token{since}")
    if training.val_loss is not None:
        lines.append(f"validation loss {training.val_loss:.4f} nats per token")
    at_best = training.step is not None and training.step == training.best_step
    if training.bits_per_byte is not None:
        lines.append(
            f"validation {training.bits_per_byte:.4f} bits per byte{', the best' if at_best else ''}"
        )
    if training.best_bits_per_byte is not None and not (at_best and training.bits_per_byte is not None):
        at = "" if training.best_step is None else f", at step {training.best_step:,}"
        lines.append(f"best validation {training.best_bits_per_byte:.4f} bits per byte{at}")
    return lines


def _parts(summary: "Summary", width: int) -> Table:
    table = light_table(width, footer=True)
    table.add_column("part", f"{summary.bytes / 1e6:,.1f} MB of weights", no_wrap=True, min_width=18)
    table.add_column("tensors", str(sum(part.tensors for part in summary.parts)), justify="right")
    table.add_column("parameters", f"{summary.parameters:,}", justify="right", no_wrap=True)
    table.add_column("share", "100.0%", justify="right")
    table.add_column("", ratio=1, min_width=4)
    for part in summary.parts:
        share = part.parameters / summary.parameters
        table.add_row(part.name, str(part.tensors), f"{part.parameters:,}", percent(share), Bar(share))
    return table

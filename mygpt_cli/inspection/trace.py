"""The model run layer by layer, with what each of its parts writes to the residual stream.

Shapes as in `model/gpt.py`. Everything is computed by the model's own modules, in the order of its own
forward pass, whose logits are those of the last stream.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mygpt_cli.base.errors import MygptError, UsageError
from mygpt_cli.generation.decode import unsound_part
from mygpt_cli.model.gpt import GPT, Block, attend, attention_weights

Rotary = tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Trace:
    """A text on its way through a model of L layers: its T ids, and what each part writes.

    `streams` are the L + 1 states of the residual stream (T, C): what the first layer reads, and what each
    layer leaves. `embedded` are the parts of the first, by name; `attention` and `mlp` the L pairs of (T, C)
    that layers add to it.
    """

    model: GPT
    ids: tuple[int, ...]
    embedded: dict[str, Tensor]
    streams: tuple[Tensor, ...]
    attention: tuple[Tensor, ...]
    mlp: tuple[Tensor, ...]


@dataclass(frozen=True)
class Heads:
    """The attention of a layer: the normalised stream (T, C) that it reads, and what its H heads make of it.

    `query` and `gathered` are (H, T, D), `key` and `value` (K, T, D); `weights` (H, T, T), query by key.
    """

    normed: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor
    gathered: Tensor


@torch.no_grad()
def trace(model: GPT, ids: tuple[int, ...]) -> Trace:
    """Run a model on the last context of ids, at least one; MygptError when its numbers are not finite."""
    ids = ids[-model.config.context :]
    tokens = torch.tensor([ids], device=model.embedding.device)
    vectors = model.embed(tokens)
    placed, _ = model.place(vectors)
    x = placed[0]  # (T, C)
    embedded = {"token embedding": x}
    if model.positions is not None and model.embedding_norm is None:
        positions = model.positions[: len(ids)].to(x.dtype)
        embedded = {"token embedding": vectors[0], "position embedding": positions}
    streams, attention, mlp = [x], [], []
    for block in layers_of(model):
        attention.append(block.attention.merge(_heads(model, block, x).gathered[None])[0])
        x = x + attention[-1]
        mlp.append(block.mlp(block.mlp_norm(x)))
        x = x + mlp[-1]
        streams.append(x)
    traced = Trace(model, ids, embedded, tuple(streams), tuple(attention), tuple(mlp))
    if not logits_of(traced, x[-1]).isfinite().all():
        part = unsound_part(model, tokens)
        raise MygptError(
            f"the model's logits are not finite numbers: they go wrong in {part}",
            "the checkpoint's weights are damaged, or its training diverged: take an earlier one",
        )
    return traced


@torch.no_grad()
def heads_of(traced: Trace, layer: int) -> Heads:
    """Look at the attention of a layer, counted from 0."""
    return _heads(traced.model, layers_of(traced.model)[layer], traced.streams[layer])


def _heads(model: GPT, block: Block, x: Tensor) -> Heads:
    attention, normed = block.attention, block.attention_norm(x)
    q, k, v = attention.project(normed[None], rotary_of(model, len(x)))
    weights = attention_weights(q, attention.share(k))
    gathered = weights @ attention.share(v)
    return Heads(normed, q[0], k[0], v[0], weights[0], gathered[0])


@torch.no_grad()
def without_heads(traced: Trace, layer: int, heads: list[int]) -> Tensor:
    """Return the logits (N, V) after the last token with each of N heads of a layer removed alone.

    A removed head's values are zeros at every position; all that comes after runs as usual. Layer and heads
    are counted from 0.
    """
    block, *later = layers_of(traced.model)[layer:]
    rotary = rotary_of(traced.model, len(traced.ids))
    kept = heads_of(traced, layer).gathered.repeat(len(heads), 1, 1, 1)  # (N, H, T, D)
    kept[range(len(heads)), heads] = 0.0
    x = traced.streams[layer] + block.attention.merge(kept)  # (N, T, C)
    for following in later:
        x = x + block.mlp(block.mlp_norm(x))
        block = following
        last = block is later[-1]
        x = _with_attention(block, x, rotary, rows=1 if last else len(traced.ids))
    x = x[:, -1]  # of the last layer nothing else is asked for
    return logits_of(traced, x + block.mlp(block.mlp_norm(x)))


def _with_attention(block: Block, x: Tensor, rotary: Rotary, rows: int) -> Tensor:
    """Return the last rows of a stream (N, T, C) with what the layer's attention adds to them."""
    attention = block.attention
    q, k, v = attention.project(block.attention_norm(x), rotary)
    gathered = attend(q[:, :, -rows:], attention.share(k), attention.share(v))
    return x[:, -rows:] + attention.merge(gathered)


@torch.no_grad()
def logits_of(traced: Trace, stream: Tensor) -> Tensor:
    """Return the logits (..., V) that the model would give if this residual stream (..., C) were its last.

    They are float64 on the CPU, as in generation.
    """
    model = traced.model
    return model.unembed(model.norm(stream)).cpu().double()


def check_chosen(model: GPT, layer: int | None, head: int | None) -> None:
    """Raise UsageError for a layer or a head, from 1, that the model does not have."""
    chosen = (("layer", layer, model.config.layers), ("head", head, model.config.heads))
    faults = [
        f"--{name} {number}: the model has {name}s 1 to {count}"
        for name, number, count in chosen
        if number is not None and not 1 <= number <= count
    ]
    if faults:
        raise UsageError(faults)


def layers_of(model: GPT) -> list[Block]:
    """Return the model's layers, first to last."""
    return cast("list[Block]", list(model.blocks))


def rotary_of(model: GPT, length: int) -> Rotary:
    """Return the tables that turn the queries and keys of the first positions, where there are such."""
    if model.positions is not None:
        return None
    return model.cos[:length].to(model.compute_dtype), model.sin[:length].to(model.compute_dtype)

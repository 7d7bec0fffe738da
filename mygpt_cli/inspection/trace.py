"""The model run layer by layer, with what each of its parts writes to the residual stream.

Shapes as in `model/gpt.py`. All of it is recorded while the model runs.
"""

import re
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mygpt_cli.base.errors import MygptError, UsageError
from mygpt_cli.generation.decoding import unsound_part
from mygpt_cli.inspection.recorder import Call, changed, recorded
from mygpt_cli.model.gpt import GPT, Block, attention_weights


@dataclass(frozen=True)
class Trace:
    """A text on its way through a model of L layers: its T ids, and what each part writes.

    `streams` are the L + 1 states of the residual stream (T, C): what the first layer reads, and what each
    layer leaves. `embedded` are the parts of the first, by name; `attention` and `mlp` the L pairs of (T, C)
    that layers add to it. Of a longer text these are the last ids; `before` them are so many that the model
    does not see.
    """

    model: GPT
    ids: tuple[int, ...]
    embedded: dict[str, Tensor]
    streams: tuple[Tensor, ...]
    attention: tuple[Tensor, ...]
    mlp: tuple[Tensor, ...]
    before: int


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
    before = max(0, len(ids) - model.config.context)
    ids = ids[before:]
    tokens = torch.tensor([ids], device=model.embedding.device)
    with recorded(
        model, lambda name: re.fullmatch(r"blocks\.\d+(\.attention|\.mlp)?", name) is not None
    ) as calls:
        model.hidden(tokens)
    layers = range(model.config.layers)
    streams = [calls["blocks.0"].inputs[0][0], *(calls[f"blocks.{layer}"].output[0] for layer in layers)]
    embedded = {"token embedding": streams[0]}
    if model.positions is not None and model.embedding_norm is None:
        positions = model.positions[: len(ids)].to(model.compute_dtype)
        embedded = {"token embedding": model.embed(tokens)[0], "position embedding": positions}
    attention, mlp = (
        tuple(calls[f"blocks.{layer}.{part}"].output[0] for layer in layers) for part in ("attention", "mlp")
    )
    traced = Trace(model, ids, embedded, tuple(streams), attention, mlp, before)
    if not logits_of(traced, streams[-1]).isfinite().all():
        part = unsound_part(model, tokens)
        raise MygptError(
            f"the model's logits are not finite numbers: they go wrong in {part}",
            "the checkpoint's weights are damaged, or its training diverged: take an earlier one",
        )
    return traced


@torch.no_grad()
def calls_of(traced: Trace, layer: int) -> dict[str, Call]:
    """Record all that the parts of a layer, counted from 0, compute for a batch of this text alone."""
    block = layers_of(traced.model)[layer]
    with recorded(block) as calls:
        block(traced.streams[layer][None], traced.model.rotary(0, len(traced.ids)))
    return calls


@torch.no_grad()
def heads_of(traced: Trace, layer: int) -> Heads:
    """Look at the attention of a layer, counted from 0."""
    calls = calls_of(traced, layer)
    (q, k, v), gathered = calls["attention.sdpa"]
    weights = attention_weights(q, k, traced.model.config.window_of(layer))
    return Heads(calls["attention_norm"].output[0], q[0], k[0], v[0], weights[0], gathered[0])


@torch.no_grad()
def without_heads(traced: Trace, layer: int, heads: list[int]) -> Tensor:
    """Return the logits (N, V) after the last token with each of N heads of a layer removed alone.

    What a removed head gathers is zeros at every position; all that comes after runs as usual. Layer and
    heads are counted from 0.
    """
    model, stream = traced.model, traced.streams[layer]

    def without(gathered: Tensor) -> Tensor:
        gathered = gathered.clone()  # (N, H, T, D)
        gathered[range(len(heads)), heads] = 0.0
        return gathered

    with changed(layers_of(model)[layer].attention.sdpa, without):
        copies = stream.expand(len(heads), *stream.shape)
        x = model.run_blocks(copies, model.rotary(0, len(traced.ids)), first=layer)
    return logits_of(traced, x[:, -1])


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

"""The model run layer by layer, with what each of its parts writes to the residual stream.

Shapes as in `model/gpt.py`. Everything is computed by the model's own modules, in the order of its own
forward pass, whose logits are those of the last stream.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mygpt_cli.errors import MygptError
from mygpt_cli.generation.decode import unsound_part
from mygpt_cli.model.gpt import GPT, Attention, Block, rotate

Rotary = tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Trace:
    """A text on its way through a model of L layers: its T ids, and what each part writes.

    Ids from `known` on are padding of the vocabulary and do not exist here. `streams` are the L + 1 states of
    the residual stream (T, C): what the first layer reads, and what each layer leaves. `embedded` are the
    parts of the first, by name; `attention` and `mlp` the L pairs of (T, C) that layers add to it.
    """

    model: GPT
    ids: tuple[int, ...]
    known: int
    embedded: dict[str, Tensor]
    streams: tuple[Tensor, ...]
    attention: tuple[Tensor, ...]
    mlp: tuple[Tensor, ...]


@torch.no_grad()
def trace(model: GPT, ids: tuple[int, ...], known: int | None = None) -> Trace:
    """Run a model on the last context of ids, at least one; MygptError when its numbers are not finite."""
    ids = ids[-model.config.context :]
    tokens = torch.tensor(ids, device=model.embedding.device)
    embedded = {"token embedding": F.embedding(tokens, model.embedding).to(model.compute_dtype)}
    if model.positions is None:
        embedded["token embedding"] = model.norm(embedded["token embedding"])
    else:
        embedded["position embedding"] = model.positions[: len(ids)].to(model.compute_dtype)
    x = torch.stack(tuple(embedded.values())).sum(0)  # (T, C)
    rotary = rotary_of(model, len(ids))
    streams, attention, mlp = [x], [], []
    for block in layers_of(model):
        _, values = attend(block.attention, block.attention_norm(x[None]), rotary)
        attention.append(block.attention.out(values.flatten(-2))[0])
        x = x + attention[-1]
        mlp.append(block.mlp(block.mlp_norm(x)))
        x = x + mlp[-1]
        streams.append(x)
    known = known or model.config.vocab_size
    traced = Trace(model, ids, known, embedded, tuple(streams), tuple(attention), tuple(mlp))
    if not logits_of(traced, x[-1]).isfinite().all():
        part = unsound_part(model, tokens[None])
        raise MygptError(
            f"the model's logits are not finite numbers: they go wrong in {part}",
            "the checkpoint's weights are damaged, or its training diverged: take an earlier one",
        )
    return traced


def attend(attention: Attention, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
    """Return each head's weights (B, H, T, T), query by key, and the values (B, T, H, D) it gathers.

    `x` (B, T, C) is what attention reads. The output projection of all heads' values side by side is what
    attention writes.
    """
    cfg = attention.config
    b, t, _ = x.shape
    heads = attention.qkv(x).view(b, t, -1, cfg.head_width).transpose(1, 2)
    q, k, v = heads.split([cfg.heads, cfg.kv_heads, cfg.kv_heads], dim=1)
    if rotary is not None:
        q = F.rms_norm(rotate(q, *rotary), (cfg.head_width,), eps=cfg.norm_eps)
        k = F.rms_norm(rotate(k, *rotary), (cfg.head_width,), eps=cfg.norm_eps)
    k, v = (part.repeat_interleave(cfg.heads // cfg.kv_heads, dim=1) for part in (k, v))
    future = torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1)
    scores = q @ k.transpose(-2, -1) * cfg.head_width**-0.5  # (B, H, T, T)
    weights = scores.masked_fill(future, -torch.inf).softmax(-1)
    return weights, (weights @ v).transpose(1, 2)


@torch.no_grad()
def attention_of(traced: Trace, layer: int) -> tuple[Tensor, Tensor]:
    """Return the weights (H, T, T) and gathered values (T, H, D) of a layer, counted from 0."""
    block = layers_of(traced.model)[layer]
    x = block.attention_norm(traced.streams[layer][None])
    weights, values = attend(block.attention, x, rotary_of(traced.model, x.size(1)))
    return weights[0], values[0]


@torch.no_grad()
def without_heads(traced: Trace, layer: int, heads: list[int]) -> Tensor:
    """Return the logits (N, V) after the last token with each of N heads of a layer removed alone.

    A removed head's values are zeros at every position; all that comes after runs as usual. Layer and heads
    are counted from 0.
    """
    block, *later = layers_of(traced.model)[layer:]
    _, values = attention_of(traced, layer)
    kept = values.repeat(len(heads), 1, 1, 1)  # (N, T, H, D)
    kept[range(len(heads)), :, heads] = 0.0
    x = traced.streams[layer] + block.attention.out(kept.flatten(-2))  # (N, T, C)
    x = x + block.mlp(block.mlp_norm(x))
    for block in later:
        x = block(x, rotary_of(traced.model, x.size(1)))
    return logits_of(traced, x[:, -1])


@torch.no_grad()
def logits_of(traced: Trace, stream: Tensor) -> Tensor:
    """Return the logits (..., V) that the model would give if this residual stream (..., C) were its last.

    They are float64 on the CPU, without padding of the vocabulary, as in generation.
    """
    model = traced.model
    return model.unembed(model.norm(stream))[..., : traced.known].cpu().double()


def layers_of(model: GPT) -> list[Block]:
    """Return the model's layers, first to last."""
    return cast("list[Block]", list(model.blocks))


def rotary_of(model: GPT, length: int) -> Rotary:
    """Return the tables that turn the queries and keys of the first positions, where there are such."""
    if model.positions is not None:
        return None
    return model.cos[:length].to(model.compute_dtype), model.sin[:length].to(model.compute_dtype)

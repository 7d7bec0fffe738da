"""What each part of the model adds to a token's logit.

The residual stream is a sum, and the final norm is linear once its scale is frozen, so that the logit before
the soft cap is a sum over all that was ever added to the stream (Elhage et al., 2021).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mygpt_cli.inspection.trace import Trace, layers_of, logits_of
from mygpt_cli.model.gpt import GPT, Norm


@dataclass(frozen=True)
class Contribution:
    """What a part adds to the answer's logit, and to its lead over the next best token's.

    `layer` counts from 1, and is None for parts outside the layers.
    """

    part: str
    layer: int | None
    logit: float
    lead: float


@dataclass(frozen=True)
class Contributions:
    """All parts of a logit; with `rounding`, what float32 loses on the way, they sum to it.

    `answer` and `rival` are ids, `logit` and `lead` the model's own.
    """

    answer: int
    rival: int
    logit: float
    lead: float
    parts: tuple[Contribution, ...]
    rounding: Contribution


@torch.no_grad()
def contributions(traced: Trace) -> Contributions:
    """Take apart the best token's logit after the last token, and its lead over the second."""
    model = traced.model
    logits = logits_of(traced, traced.streams[-1][-1])
    order = logits.sort(descending=True, stable=True).indices.tolist()
    answer, rival = order[0], order[:2][-1]
    columns = []  # of the answer, and of the rival
    for token in (answer, rival):
        direction, bias = direction_of(model, traced.streams[-1][-1], token)
        sums = [float(part[-1].cpu().double() @ direction) for part in _written(traced)]
        sums += [bias] if model.norm.bias is not None else []
        if model.config.softcap:
            sums.append(float(logits[token]) - _uncapped(traced, token))
        columns.append([*sums, float(logits[token]) - sum(sums)])
    rows = [
        Contribution(part, layer, mine, mine - theirs)
        for (part, layer), mine, theirs in zip(_names(traced), *columns, strict=True)
    ]
    logit = float(logits[answer])
    return Contributions(answer, rival, logit, logit - float(logits[rival]), tuple(rows[:-1]), rows[-1])


@torch.no_grad()
def direction_of(model: GPT, stream: Tensor, token: int) -> tuple[Tensor, float]:
    """Return what to multiply a part of the last stream (C) with, and the share of the norm's bias.

    Both in float64: the token's row of the head, seen through the final norm with its scale frozen.
    """
    weight = model.embedding if model.head is None else model.head.weight
    row, norm = weight[token].cpu().double(), model.norm
    bias = 0.0 if norm.bias is None else float(norm.bias.cpu().double() @ row)
    gained = row if norm.weight is None else row * norm.weight.cpu().double()
    if norm.kind == "rms":
        return gained * scale_of(norm, stream), bias
    return (gained - gained.mean()) * scale_of(norm, stream), bias  # takes the mean off as LayerNorm does


def scale_of(norm: Norm, stream: Tensor) -> float:
    """Return what the norm multiplies a stream (C) with, its mean taken off first for LayerNorm."""
    x = stream.cpu().double()
    square = x.square().mean() if norm.kind == "rms" else x.var(correction=0)
    return float((square + norm.eps).rsqrt())


def _written(traced: Trace) -> list[Tensor]:
    pairs = zip(traced.attention, traced.mlp, strict=True)
    return [*traced.embedded.values(), *(part for pair in pairs for part in pair)]


def _names(traced: Trace) -> list[tuple[str, int | None]]:
    model = traced.model
    names: list[tuple[str, int | None]] = [(name, None) for name in traced.embedded]
    for layer in range(1, len(layers_of(model)) + 1):
        names += [("attention", layer), ("feed-forward", layer)]
    names += [("bias of the final norm", None)] if model.norm.bias is not None else []
    names += [("soft cap", None)] if model.config.softcap else []
    return [*names, ("rounding", None)]


def _uncapped(traced: Trace, token: int) -> float:
    """Return the logit before the soft cap."""
    model = traced.model
    with torch.no_grad():
        return float(model.score(model.norm(traced.streams[-1][-1]))[token])

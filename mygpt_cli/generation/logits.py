"""Filters: pure functions from logits to logits, in one visible chain.

They act on the last axis of a floating-point tensor (..., V) and keep its type and shape. A token that is cut
gets the logit -inf. Every filter keeps at least one token of each row.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mygpt_cli.generation.settings import Sampling

Filter = Callable[[Tensor], Tensor]


def greedy(logits: Tensor) -> Tensor:
    """Keep only the best token, the one with the lowest id where several are."""
    best = logits.argmax(dim=-1, keepdim=True)
    return torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best))


def temperature(logits: Tensor, degree: float) -> Tensor:
    """Divide by the temperature (above 0): below 1 sharpens the distribution, above 1 flattens it."""
    return logits / degree


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k (at least 1) best tokens, and those equal to the last of them (Fan et al., 2018)."""
    last = logits.topk(min(k, logits.size(-1)), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < last, -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest tokens whose probabilities reach p, in (0, 1] (Holtzman et al., 2020).

    Among equal tokens, those with the lower ids stay.
    """
    ascending, order = logits.flip(-1).sort(dim=-1, stable=True)
    order = logits.size(-1) - 1 - order  # a stable sort of the flipped row puts higher ids first
    cut = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    cut[..., -1] = False
    return logits.masked_fill(torch.empty_like(cut).scatter(-1, order, cut), -math.inf)


def min_p(logits: Tensor, share: float) -> Tensor:
    """Keep tokens at least `share` times as probable as the best, in [0, 1) (Nguyen et al., 2024)."""
    probs = logits.softmax(dim=-1)
    return logits.masked_fill(probs < share * probs.amax(dim=-1, keepdim=True), -math.inf)


def chain(sampling: Sampling) -> list[tuple[str, Filter]]:
    """List the filters that these settings ask for, named, in the order in which they are applied.

    The order is that of transformers: temperature, top-k, top-p, min-p. Greedy choice replaces them all.
    """
    if sampling.greedy:
        return [("greedy", greedy)]
    filters: list[tuple[str, Filter]] = []
    if sampling.temperature != 1:
        filters.append(("temperature", partial(temperature, degree=sampling.temperature)))
    if sampling.top_k:
        filters.append(("top-k", partial(top_k, k=sampling.top_k)))
    if sampling.top_p < 1:
        filters.append(("top-p", partial(top_p, p=sampling.top_p)))
    if sampling.min_p:
        filters.append(("min-p", partial(min_p, share=sampling.min_p)))
    return filters


def logits_to_probs(logits: Tensor) -> Tensor:
    """Turn logits (..., V) into probabilities (..., V) that sum to 1 over the last axis."""
    return logits.softmax(dim=-1)

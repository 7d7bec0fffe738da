"""Filters: pure functions from logits to logits.

They act on the last axis of a floating-point tensor (..., V) and keep its type and shape. A token that is cut
gets the logit -inf. Those that look back take the token ids (B, T) before it, with -1 in front of texts that
are shorter than others. `chain.py` puts them in order.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


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
    if (kept := _top_p_of_best(logits, p)) is not None:
        return kept
    ascending, order = logits.flip(-1).sort(dim=-1, stable=True)
    order = logits.size(-1) - 1 - order  # a stable sort of the flipped row puts higher ids first
    cut = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    cut[..., -1] = False
    return logits.masked_fill(torch.empty_like(cut).scatter(-1, order, cut), -math.inf)


def _top_p_of_best(logits: Tensor, p: float, best: int = 1024) -> Tensor | None:
    """Do the work of `top_p` without sorting a large vocabulary; None where the best do not suffice."""
    if logits.size(-1) < 8 * best:
        return None
    values = logits.topk(best, dim=-1).values  # (..., K)
    reached = (values - logits.logsumexp(dim=-1, keepdim=True)).exp().cumsum(dim=-1)
    last = (reached < p).sum(dim=-1, keepdim=True)  # the place of the last one that stays
    if (last >= best - 1).any():
        return None
    least = values.gather(-1, last)
    room = ((values == least) & (torch.arange(best, device=values.device) <= last)).sum(dim=-1, keepdim=True)
    equal = logits == least
    return logits.masked_fill((logits < least) | (equal & (equal.cumsum(dim=-1) > room)), -math.inf)


def min_p(logits: Tensor, ratio: float) -> Tensor:
    """Keep tokens at least `ratio` times as probable as the best, in [0, 1) (Nguyen et al., 2024)."""
    probs = logits.softmax(dim=-1)
    return logits.masked_fill(probs < ratio * probs.amax(dim=-1, keepdim=True), -math.inf)


def typical_p(logits: Tensor, p: float) -> Tensor:
    """Keep the tokens whose surprise is nearest to the entropy, until their probabilities reach p, in (0, 1].

    Surprise is the negative log-probability. Tokens as near as the last stay too (Meister et al., 2023).
    """
    surprise = -logits.log_softmax(dim=-1)
    probs = surprise.neg().exp()
    distance = (surprise - torch.special.entr(probs).sum(dim=-1, keepdim=True)).abs()
    nearest, order = distance.sort(dim=-1)
    reached = probs.gather(-1, order).cumsum(dim=-1)
    last = (reached < p).sum(dim=-1, keepdim=True).clamp(max=logits.size(-1) - 1)
    return logits.masked_fill(distance > nearest.gather(-1, last), -math.inf)


def repetition_penalty(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Make tokens that occur in the ids (B, T) less likely, by a penalty above 1 (Keskar et al., 2019).

    Positive logits (B, V) are divided by the penalty (above 0), negative ones multiplied.
    """
    less = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(_counts(logits, ids) > 0, less, logits)


def frequency_penalty(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Subtract the penalty from logits (B, V) once for each time that a token occurs in the ids (B, T)."""
    return logits - penalty * _counts(logits, ids)


def presence_penalty(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Subtract the penalty from the logits (B, V) of all tokens that occur in the ids (B, T)."""
    return logits - penalty * _counts(logits, ids).clamp(max=1)


def _counts(logits: Tensor, ids: Tensor, where: Tensor | None = None) -> Tensor:
    """Return how often each token (B, V) is among the ids (B, T), or among those of them that are counted."""
    counted = torch.ones_like(ids) if where is None else where
    missing = logits.size(-1)  # the place of -1: one more, which is dropped
    counts = logits.new_zeros(len(ids), missing + 1)
    return counts.scatter_add_(-1, ids.remainder(missing + 1), counted.to(logits.dtype))[:, :-1]


def no_repeat_ngram(logits: Tensor, ids: Tensor, n: int) -> Tensor:
    """Cut tokens from logits (B, V) that would repeat n (at least 1) tokens of the ids (B, T) in a row."""
    if ids.size(1) < n:
        return logits
    ngrams = ids.unfold(1, n, 1)  # (B, T - n + 1, n)
    latest = ids[:, ids.size(1) - n + 1 :]  # (B, n - 1)
    same = (ngrams[..., :-1] == latest[:, None]).all(dim=-1)
    return logits.masked_fill(_counts(logits, ngrams[..., -1], same) > 0, -math.inf)


def bias(logits: Tensor, ids: Tensor, sequence: Sequence[int], amount: float) -> Tensor:
    """Add an amount (-inf cuts) to the last token of a sequence, where the ids (B, T) end with the others."""
    *before, token = sequence
    if len(before) > ids.size(1):
        return logits
    follows = (ids[:, ids.size(1) - len(before) :] == ids.new_tensor(before)).all(dim=-1, keepdim=True)
    here = torch.zeros_like(logits, dtype=torch.bool)
    here[:, token : token + 1] = follows
    return torch.where(here, logits + amount, logits)


def lead(logits: Tensor, ids: Tensor, sequence: Sequence[int], amount: float) -> Tensor:
    """Add an amount to the one token of a sequence that follows as much of it as the ids (B, T) end with."""
    nexts = [
        next(sequence[n] for n in reversed(range(len(sequence))) if row[len(row) - n :] == [*sequence[:n]])
        for row in ids[:, -len(sequence) :].tolist()
    ]
    here = torch.tensor(nexts, device=logits.device)[:, None]
    return logits.scatter(-1, here, logits.gather(-1, here) + amount)


def cut(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """Cut some tokens."""
    places = torch.tensor(tokens, dtype=torch.long, device=logits.device)
    return logits.index_fill(-1, places, -math.inf)


def logits_to_probs(logits: Tensor) -> Tensor:
    """Turn logits (..., V) into probabilities (..., V) that sum to 1 over the last axis."""
    return logits.softmax(dim=-1)

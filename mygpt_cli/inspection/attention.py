"""What each head looks at, what that makes it, and what becomes of the answer without it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mygpt_cli.base.progress import OnProgress
from mygpt_cli.inspection.contributions import Contributions, contributions, direction_of
from mygpt_cli.inspection.trace import Trace, check_chosen, heads_of, layers_of, logits_of, without_heads
from mygpt_cli.model.gpt import visible
from mygpt_cli.tokens.tokenizer import Tokenizer

NAMED = 0.5  # of a head's attention, on average: what is more gives it its name


@dataclass(frozen=True)
class Measures:
    """The share of its attention (0 to 1) that a head gives to each kind of place, on average.

    It is taken over the positions where there is such a place, from the third on; None where there is none.
    `previous_token` is the token just before; `first_token` the text's first; `same_token` earlier tokens
    equal to this one; `induction` tokens that followed one equal to this one (Olsson et al., 2022); `itself`
    this very token.
    """

    previous_token: float | None
    first_token: float | None
    same_token: float | None
    induction: float | None
    itself: float | None


@dataclass(frozen=True)
class Head:
    """A head, by its layer and number, both from 1.

    `kind` is the measure with the largest share, and `share` that share; `named` whether it is above half of
    the attention. `logit` is what the head itself writes towards the answer's logit. `probability` is the
    answer's with this head removed. `weights` are those of the last token on each.
    """

    layer: int
    head: int
    kind: str | None
    share: float | None
    named: bool
    measures: Measures
    logit: float
    probability: float
    weights: tuple[float, ...]


@dataclass(frozen=True)
class HeatMap:
    """All weights of a head: for each token, those on it and the ones before."""

    layer: int
    head: int
    weights: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class AttentionView:
    """The heads that were asked for, and how the model's answer after the text comes about.

    `tokens` are those of the text that the model sees, `before` how many come before them. `probability` is
    the answer's, with all heads in place.
    """

    ids: tuple[int, ...]
    tokens: tuple[bytes, ...]
    answer: int
    answer_token: bytes
    rival_token: bytes
    probability: float
    heads: tuple[Head, ...]
    maps: tuple[HeatMap, ...]
    contributions: Contributions
    before: int = 0


@torch.no_grad()
def view_attention(
    traced: Trace,
    tokenizer: Tokenizer,
    *,
    layer: int | None = None,
    head: int | None = None,
    progress: OnProgress = lambda stage, fraction: None,
) -> AttentionView:
    """Look at all heads, or those of a layer or a number, from 1.

    The map of each head that was asked for is drawn; of all of them, that of the one whose removal moves the
    answer's probability most. UsageError for a layer or head that is not there.
    """
    config = traced.model.config
    check_chosen(traced.model, layer, head)
    parts = contributions(traced)
    answer = parts.answer
    probability = float(logits_of(traced, traced.streams[-1][-1]).softmax(-1)[answer])
    numbers = [head - 1] if head else list(range(config.heads))
    layers = [layer - 1] if layer else range(config.layers)
    heads: list[Head] = []
    progress("removing heads", 0.0)
    for done, at in enumerate(layers, 1):
        heads += _heads(traced, at, numbers, answer)
        progress("removing heads", done / len(layers))
    most = max(heads, key=lambda found: abs(found.probability - probability))
    return AttentionView(
        ids=traced.ids,
        tokens=tuple(map(tokenizer.token_bytes, traced.ids)),
        answer=answer,
        answer_token=tokenizer.token_bytes(answer),
        rival_token=tokenizer.token_bytes(parts.rival),
        probability=probability,
        heads=tuple(heads),
        maps=tuple(_map(traced, found) for found in (heads if layer or head else [most])),
        contributions=parts,
        before=traced.before,
    )


def _heads(traced: Trace, layer: int, numbers: list[int], answer: int) -> Iterable[Head]:
    heads = heads_of(traced, layer)
    weights, gathered = heads.weights.cpu(), heads.gathered[:, -1].cpu().double()  # (H, T, T), (H, D)
    removed = without_heads(traced, layer, numbers).softmax(-1)[:, answer].tolist()
    direction, _ = direction_of(traced.model, traced.streams[-1][-1], answer)
    matrix = layers_of(traced.model)[layer].attention.out.weight.cpu().double()  # (C, H × D)
    pull = (direction @ matrix).view(gathered.shape) * gathered
    measured = measure(weights, traced.ids, traced.model.config.window_of(layer))
    for number, probability in zip(numbers, removed, strict=True):
        measures = measured[number]
        shares = [(share, kind) for kind, share in vars(measures).items() if share is not None]
        share, kind = max(shares, default=(None, None), key=lambda found: found[0])
        yield Head(
            layer=layer + 1,
            head=number + 1,
            kind=kind,
            share=share,
            named=share is not None and share > NAMED,
            measures=measures,
            logit=float(pull[number].sum()),
            probability=probability,
            weights=tuple(weights[number, -1].tolist()),
        )


def measure(weights: Tensor, ids: Sequence[int], window: int = 0) -> list[Measures]:
    """Say where the weights (H, T, T) of each head, query by key, lie among the positions that it sees.

    The first two positions say nothing: there, the previous token is also the first.
    """
    size = len(ids)
    tokens = torch.tensor(ids)
    earlier = visible(size, size, window, tokens.device).tril(-1)
    equal = (tokens[:, None] == tokens).tril(-1)
    first = torch.zeros_like(earlier)
    first[:, 0] = earlier[:, 0]
    columns = (
        _shares(weights, earlier & ~earlier.tril(-2)),
        _shares(weights, first),
        _shares(weights, equal & earlier),
        _shares(weights, equal.roll(1, dims=1) & earlier),
        _shares(weights, torch.eye(size, dtype=torch.bool)),
    )
    return [Measures(*row) for row in zip(*columns, strict=True)]


def _shares(weights: Tensor, places: Tensor) -> list[float | None]:
    """Return each head's mean weight on the places (T, T) over the rows from the third on that have any."""
    rows = places.any(1)
    rows[:2] = False
    if not rows.any():
        return [None] * len(weights)
    shares: list[float | None] = (weights[:, rows] * places[rows]).sum(-1).mean(-1).tolist()
    return shares


@torch.no_grad()
def maps_of(traced: Trace, heads: Sequence[Head], most: int) -> tuple[HeatMap, ...]:
    """Return the weights of heads among the last tokens: of as many as give no more than `most` weights.

    Where earlier tokens are left out, rows no longer sum to 1.
    """
    size = min(len(traced.ids), max(1, math.isqrt(2 * most // len(heads))))
    maps: list[HeatMap] = []
    for layer in sorted({found.layer for found in heads}):
        weights = heads_of(traced, layer - 1).weights[:, -size:, -size:].cpu()
        for found in heads:
            if found.layer == layer:
                rows = weights[found.head - 1].tolist()
                maps.append(
                    HeatMap(layer, found.head, tuple(tuple(row[: i + 1]) for i, row in enumerate(rows)))
                )
    return tuple(maps)


def _map(traced: Trace, head: Head) -> HeatMap:
    weights = heads_of(traced, head.layer - 1).weights[head.head - 1].tolist()
    return HeatMap(head.layer, head.head, tuple(tuple(row[: i + 1]) for i, row in enumerate(weights)))

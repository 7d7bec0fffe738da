"""The last token of a text at close range: how its attention weights come about, and its best logits."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.inspection.trace import Trace, heads_of, logits_of
from mygpt_cli.model.gpt import repeat_kv
from mygpt_cli.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Match:
    """A position of the text, from 1, against a query: its key (D), their product q·k, and its weight."""

    position: int
    token: bytes
    key: tuple[float, ...]
    product: float
    weight: float


@dataclass(frozen=True)
class Scores:
    """How a head (layer and head from 1) with a `query` (D) weighs the positions up to its own.

    A weight is exp(q·k/√D) divided by the sum of that over all `positions`, whose logarithm is `log_sum`.
    `matches` are those of largest weight, the largest first; all others together have `rest`.
    """

    layer: int
    head: int
    query: tuple[float, ...]
    matches: tuple[Match, ...]
    positions: int
    log_sum: float
    rest: float


@dataclass(frozen=True)
class Ranked:
    """A token that could come next, by the model."""

    id: int
    token: bytes
    logit: float
    probability: float


@torch.no_grad()
def scores_of(
    traced: Trace, layers: Iterable[int], tokenizer: Tokenizer, *, position: int, most: int
) -> Iterator[Scores]:
    """Yield each head's scores in these layers, counted from 0, with up to `most` positions.

    The last token of the trace is at this `position`, from 1, of the whole text.
    """
    length = len(traced.ids)
    for layer in layers:
        heads = heads_of(traced, layer)
        seen = min(length, traced.model.config.window_of(layer) or length)
        keys = repeat_kv(heads.key[None], len(heads.query))[0].double()  # (H, T, D)
        for at, query in enumerate(heads.query[:, -1].double()):
            products = keys[at] @ query
            weights = heads.weights[at, -1].double()
            best = weights.sort(descending=True, stable=True).indices[: min(most, seen)].tolist()
            yield Scores(
                layer=layer + 1,
                head=at + 1,
                query=tuple(query.tolist()),
                matches=tuple(
                    Match(
                        position=position - length + place + 1,
                        token=tokenizer.token_bytes(traced.ids[place]),
                        key=tuple(keys[at, place].tolist()),
                        product=float(products[place]),
                        weight=float(weights[place]),
                    )
                    for place in best
                ),
                positions=seen,
                log_sum=float((products[-seen:] / len(query) ** 0.5).logsumexp(0)),
                rest=float(weights.index_fill(0, torch.tensor(best, device=weights.device), 0.0).sum()),
            )


@torch.no_grad()
def best_logits(traced: Trace, tokenizer: Tokenizer, most: int) -> tuple[Ranked, ...]:
    """Return up to `most` tokens with the highest logits after the text, the highest first."""
    logits = logits_of(traced, traced.streams[-1][-1])
    probs = logits_to_probs(logits)
    order = logits.sort(descending=True, stable=True).indices[:most].tolist()
    return tuple(
        Ranked(token, tokenizer.token_bytes(token), float(logits[token]), float(probs[token]))
        for token in order
    )

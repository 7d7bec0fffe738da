"""What the model would predict if it stopped after a layer (the logit lens, nostalgebraist, 2020)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mygpt_cli.inspection.trace import Trace, logits_of
from mygpt_cli.tokens.tokenizer import Tokenizer

CHUNK = 64  # positions whose distributions are in memory at once


@dataclass(frozen=True)
class Guess:
    """The prediction for the token after a position, had the model stopped after `layer` of its layers.

    Layer 0 is the embedding, the last one the model itself. `id` and `probability` are those of the best
    token here; `answer_rank`, from 1, and `answer_probability` those of the model's final answer. `entropy`
    is in bits; `divergence` too, of the final distribution from this one (Kullback-Leibler): what a code
    made for this one would waste on each token.
    """

    layer: int
    id: int
    token: bytes
    probability: float
    answer_rank: int
    answer_probability: float
    entropy: float
    divergence: float


@dataclass(frozen=True)
class Position:
    """A position of the text, from 1: its token, the answer for the next, and the guess after each layer.

    `decided` is the first layer from which on the answer is the best token at every layer.
    """

    index: int
    id: int
    token: bytes
    answer: int
    answer_token: bytes
    decided: int
    guesses: tuple[Guess, ...]


def view_lens(traced: Trace, tokenizer: Tokenizer) -> tuple[Position, ...]:
    """Look at every layer and position."""
    views: list[Position] = []
    for start in range(0, len(traced.ids), CHUNK):
        part = slice(start, start + CHUNK)
        final = logits_of(traced, traced.streams[-1][part]).log_softmax(-1)
        probs = final.exp()
        layers = [
            _guesses(traced, stream[part], final, probs, tokenizer, i)
            for i, stream in enumerate(traced.streams)
        ]
        answers = [guess.id for guess in layers[-1]]
        for offset, guesses in enumerate(zip(*layers, strict=True)):
            token, answer = traced.ids[start + offset], answers[offset]
            view = Position(
                index=traced.before + start + offset + 1,
                id=token,
                token=tokenizer.token_bytes(token),
                answer=answer,
                answer_token=tokenizer.token_bytes(answer),
                decided=1 + max((guess.layer for guess in guesses if guess.id != answer), default=-1),
                guesses=guesses,
            )
            views.append(view)
    return tuple(views)


@torch.no_grad()
def best_of(traced: Trace, top: int, last: int) -> tuple[Tensor, Tensor]:
    """Return the ids (L + 1, N, K) of the `top` best tokens after each layer, and their probabilities.

    They are those at the `last` N positions, or at all where there are fewer. K is no more than there are
    tokens. Among equals, lower ids come first.
    """
    ids, probs = [], []
    for stream in traced.streams:
        sorts = []
        for part in torch.split(stream[-last:], CHUNK):
            found = logits_of(traced, part).softmax(-1).sort(descending=True, stable=True)
            sorts.append((found.indices[:, :top], found.values[:, :top]))
        ids.append(torch.cat([part for part, _ in sorts]))
        probs.append(torch.cat([part for _, part in sorts]))
    return torch.stack(ids), torch.stack(probs)


@torch.no_grad()
def _guesses(
    traced: Trace, stream: Tensor, final: Tensor, probs: Tensor, tokenizer: Tokenizer, layer: int
) -> list[Guess]:
    """Return the guess at each of T positions from a stream (T, C).

    `final` (T, V) are the final log-probabilities, and `probs` the same without the logarithm.
    """
    logs = logits_of(traced, stream).log_softmax(-1)
    best = logs.argmax(-1)
    answer = final.argmax(-1, keepdim=True)
    reached = logs.gather(-1, answer)
    # Among equals, lower ids come first: as many as are better, or equal and earlier.
    ids = torch.arange(logs.size(-1))
    ranks = 1 + ((logs > reached) | ((logs == reached) & (ids < answer))).sum(-1)
    wasted = _mean(probs, final) - _mean(probs, logs)
    columns = (
        best.tolist(),
        logs.gather(-1, best[:, None])[:, 0].exp().tolist(),
        ranks.tolist(),
        reached[:, 0].exp().tolist(),
        (_mean(logs.exp(), logs).abs() / math.log(2)).tolist(),
        (wasted.clamp(min=0.0) / math.log(2)).tolist(),
    )
    return [
        Guess(layer, row[0], tokenizer.token_bytes(row[0]), *row[1:]) for row in zip(*columns, strict=True)
    ]


def _mean(probs: Tensor, values: Tensor) -> Tensor:
    """Return the mean of values (T, V) under probabilities (T, V), each row's own: (T,)."""
    mean: Tensor = torch.linalg.vecdot(probs, values)
    return mean

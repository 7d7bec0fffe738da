"""An induction head that a model has before its first training step (Olsson et al., 2022, arXiv:2209.11895).

In the first layer an attention head looks at the previous token and writes a short code of it. In the second
layer a head looks for the code of the present token, and so finds what followed that token earlier, which may
follow again. Without this start, training finds it only after hundreds of steps.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mygpt_cli.model.gpt import GPT, Attention, rotary_frequencies

# Chosen with trial versions; see "An induction head to begin with" in benchmarks/RESULTS.md.
OTHERS = 1 / 3  # what remains of the random weights of the queries and keys of these heads
FASTEST = 3  # pairs of channels that tell one position from the next
WRITTEN = 1.5  # deviation of what is written down, where that of the embedding is 1
SHARPNESS = 1.5  # gain of the queries and keys that compare tokens
QUERY, KEY, VALUE = range(3)


@torch.no_grad()
def add_induction(
    model: GPT, frequencies: Tensor, agreed: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> None:
    """Set the first head of the first and of the second layer, in place.

    `frequencies` (V) are how often each token occurs. The first coordinate of most embeddings has to have the
    same sign. `agreed` returns what the first of several processes has in place of a tensor. Models of one
    layer, or with one head in each, stay as they are: they need their heads for other things.
    """
    config = model.config
    if min(config.layers, config.heads) < 2 or config.kv_heads != config.heads:
        return
    slow = _slow_channels(model)
    if not len(slow) or frequencies.count_nonzero() < 2:
        return
    first, second = [part for part in model.modules() if isinstance(part, Attention)][:2]
    weights = frequencies.sqrt() / frequencies.sqrt().sum()  # rare tokens are worth finding, too
    mean = agreed(weights @ model.embedding)
    _look_one_back(first, mean[0].item())
    reading, writing = map(agreed, _codes(model, weights, mean, len(slow)))
    _rows(first, VALUE)[: len(slow)] = reading
    first.out.weight[:, : len(slow)] = WRITTEN * writing
    normed = config.qk_norm != "none"
    for part, compared in ((QUERY, reading), (KEY, writing.T / WRITTEN)):
        rows = _rows(second, part).mul_(OTHERS)
        rows[slow] = compared * math.sqrt(config.head_width / len(slow)) * (1.0 if normed else SHARPNESS)
    for norm in (second.query_norm, second.key_norm):
        if norm is not None and norm.weight is not None:
            norm.weight[slow] = SHARPNESS  # in all heads of the layer, which share it


def _rows(attention: Attention, part: int) -> Tensor:
    """Return the rows of the first head's queries, keys or values (D, C)."""
    config = attention.config
    rows: Tensor = attention.qkv.weight[part * config.heads * config.head_width :][: config.head_width]
    return rows


def _slow_channels(model: GPT) -> Tensor:
    """Return the channels of a head that turn by a radian at most within half of what attention sees."""
    config = model.config
    seen = config.window_of(1) or config.context
    slow = (rotary_frequencies(config) * seen / 2 <= 1.0).nonzero().flatten()
    return torch.cat([slow, slow + config.head_width // 2])


def _look_one_back(attention: Attention, constant: float) -> None:
    """Let the first head look at the previous token, whichever it is.

    All embeddings have a first coordinate of about `constant`, from which queries and keys are made. A key is
    the query turned by one position, so that the two match best one token apart.
    """
    config = attention.config
    angles = rotary_frequencies(config)[:FASTEST] * (-1.0 if config.rope_clockwise else 1.0)
    size = math.sqrt(config.head_width / len(angles)) / constant
    for part, turned in ((QUERY, torch.zeros_like(angles)), (KEY, angles)):
        rows = _rows(attention, part).mul_(OTHERS)
        rows[:, 0] = 0.0
        rows[: len(angles), 0] = size * turned.cos()
        rows[config.head_width // 2 :][: len(angles), 0] = size * turned.sin()


def _codes(model: GPT, weights: Tensor, mean: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return what reads a short code of a token from its embedding (N, C), and what writes it down (C, N).

    Codes have a mean of 0 and a deviation of 1. They are written where the embeddings differ least and the
    head looks least, and are not read from there.
    """
    assert model.head is not None  # noqa: S101 - of models with an embedding of its own
    own = model.embedding - torch.outer(model.embedding[:, 0] / mean[0], mean)
    spread = (own * weights[:, None]).T @ own
    seen = (model.head.weight * weights[:, None]).T @ model.head.weight
    spread, seen = spread[1:, 1:], seen[1:, 1:]  # the first coordinate is what all have in common
    used = spread / spread.trace() + seen / seen.trace()
    used += torch.diag(torch.linspace(0.0, 1e-4, len(used)))  # so that unused directions have an order
    free = torch.linalg.eigh(used).eigenvectors[:, :size]
    other = torch.eye(len(used)) - free @ free.T
    variances, directions = torch.linalg.eigh(other @ spread @ other)
    scales = torch.where(variances > 1e-4 * variances[-1], variances.clamp(min=1e-12).rsqrt(), 0.0)
    mixed = torch.randn(len(used), size, generator=torch.Generator().manual_seed(0))
    reading = torch.linalg.qr(mixed).Q.T @ (directions * scales) @ directions.T
    reading /= (reading @ spread @ reading.T).diagonal().sqrt()[:, None]
    return (
        torch.cat([-(reading @ mean[1:] / mean[0])[:, None], reading], dim=1),
        torch.cat([torch.zeros(1, size), free]),
    )

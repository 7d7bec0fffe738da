"""Filters that work on text rather than tokens: what must never be written, and what must come first.

They look at the bytes of every token, so that no way of cutting the text into tokens gets around them.
`vocabulary` holds the bytes of each of V tokens. The filters are pure; they only remember their masks.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

Words = Callable[[Tensor, Tensor], Tensor]
Key = TypeVar("Key", bound=Hashable)


def ban(text: bytes, vocabulary: Sequence[bytes]) -> Words:
    """Return a filter that cuts tokens from logits (B, V) that would complete a text after the ids (B, T)."""

    def missing(row: list[int]) -> tuple[bytes, ...]:
        """Return what is missing for each beginning of the text that is written last."""
        written = b"".join(vocabulary[token] for token in row if token >= 0)
        return tuple(text[n:] for n in range(1, len(text)) if written.endswith(text[:n]))

    def completes(token: bytes, missing: tuple[bytes, ...]) -> bool:
        return text in token or token.startswith(missing)

    return _cut(slice(-len(text), None), missing, completes, vocabulary)


def begin_with(text: bytes, vocabulary: Sequence[bytes]) -> Words:
    """Return a filter that cuts tokens from logits (B, V) that do not lead from the ids (B, T) to a text."""

    def missing(row: list[int]) -> bytes:
        """Return the rest of the text: nothing when it is written, or cannot be any more."""
        written = b"".join(vocabulary[token] for token in row)
        return text[len(written) :] if text.startswith(written) else b""

    def strays(token: bytes, missing: bytes) -> bool:
        return bool(missing) and not (token and (missing.startswith(token) or token.startswith(missing)))

    return _cut(slice(len(text)), missing, strays, vocabulary)


def _cut(
    part: slice,
    key: Callable[[list[int]], Key],
    lost: Callable[[bytes, Key], bool],
    vocabulary: Sequence[bytes],
) -> Words:
    """Return a filter that cuts the tokens that are lost, given what counts of part of the ids before."""

    @cache
    def mask(key: Key) -> Tensor:
        return torch.tensor([lost(token, key) for token in vocabulary])

    def apply(logits: Tensor, ids: Tensor) -> Tensor:
        masks = torch.stack([mask(key(row)) for row in ids[:, part].tolist()])
        return logits.masked_fill(masks, -math.inf)

    return apply

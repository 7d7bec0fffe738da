"""Subword regularisation: the same text, cut into tokens a little differently every time.

A model that sees each passage several times learns its tokens by heart. Undoing some of the merges that made
them, at random, shows the same letters in other pieces. The idea is BPE-dropout's (Provilkov et al., 2020,
arXiv:1910.13267); undoing merges of finished tokens needs no second look at the text.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

_ROUNDS = 3  # parts of parts of parts


class BPEDropout:
    """Splits tokens of a learned byte-pair vocabulary into the two that it was merged from.

    `ranks` maps the bytes of each token to its id, ids in the order of the merges.
    """

    def __init__(self, ranks: Mapping[bytes, int], vocab_size: int) -> None:
        self._parts = np.full((vocab_size, 2), -1, np.int64)
        for token, rank in ranks.items():
            if len(token) > 1 and (cut := _last_merge(token, rank, ranks)):
                self._parts[rank] = ranks[token[:cut]], ranks[token[cut:]]

    def split(
        self, ids: np.ndarray, p: float, random: np.random.Generator, rows_of: tuple[slice, int] | None = None
    ) -> np.ndarray:
        """Return rows (B, T) in which each token is split with probability p, as is each part, cut to T.

        With `rows_of`, they are those rows of so many, and are split as they would be among all of them.
        """
        own, count = rows_of or (slice(None), len(ids))
        width = ids.shape[1]
        rows = np.arange(len(ids))[:, None]
        drawn = np.ones(ids.shape, bool)  # which may be split in this round: at first all, then new parts
        for _ in range(_ROUNDS):
            parts = self._parts[ids]  # (B, T, 2)
            halved = (random.random((count, width))[own] < p) & (parts[..., 0] >= 0) & drawn
            places = np.arange(width) + np.cumsum(halved, axis=1) - halved  # where each goes, (B, T)
            longer, drawn = np.empty((len(ids), 2 * width), np.int64), np.zeros((len(ids), 2 * width), bool)
            longer[rows, places] = np.where(halved, parts[..., 0], ids)
            row, column = np.nonzero(halved)
            place = places[row, column]
            longer[row, place + 1] = parts[row, column, 1]
            drawn[row, place] = drawn[row, place + 1] = True
            ids, drawn = longer[:, :width], drawn[:, :width]
        return ids


def _last_merge(token: bytes, rank: int, ranks: Mapping[bytes, int]) -> int | None:
    """Return where the two parts meet that merging, stopped before this token's rank, leaves of it."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, rank) for a, b in pairwise(parts)]
        best = min(pairs)
        if best >= rank:
            return None
        at = pairs.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return len(parts[0])

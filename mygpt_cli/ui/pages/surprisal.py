"""A text and its surprisal as data for a page: every token, the copied passages, the curve over the whole."""

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from mygpt_cli.ui.pages.steps import broken
from mygpt_cli.ui.text import head, one_line, tail, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.copied import Copied
    from mygpt_cli.inspection.surprisal import Surprisal
    from mygpt_cli.tokens.tokenizer import Tokenizer

MOST_TOKENS = 20_000  # of which everything is on the page
MOST_POINTS = 200  # of the curve
MOST_PASSAGES = 500
WORST = 30
BEFORE = 40  # characters before one of the worst places
RANKS = (1, 10, 100)


def surprisal_page(
    view: "Surprisal", tokenizer: "Tokenizer", copied: "Copied | str", text: str, lines: list[int]
) -> dict[str, Any]:
    """Return what a page needs to show each token of a text; `lines` are those of its WORST places."""
    size = min(len(view.ids), MOST_TOKENS)
    ids, best = view.ids[:size].tolist(), view.best[: size - 1].tolist()
    names = {token: tokenizer.token_bytes(token) for token in {*ids, *best}}
    return {
        "tokens": {token: broken(name) for token, name in names.items()},
        "shown": {token: visible(name) for token, name in names.items()},
        "ids": ids,
        "bits": [round(bits, 3) for bits in view.bits[: size - 1].tolist()],
        "ranks": view.ranks[: size - 1].tolist(),
        "best": best,
        "best_bits": [round(nats / np.log(2), 3) for nats in view.best_nats[: size - 1].tolist()],
        "count": len(view.nats),
        "bits_per_byte": view.bits_per_byte,
        "nats_per_token": view.nats_per_token,
        "perplexity": view.perplexity,
        "by_rank": _by_rank(view),
        "curve": curve_of(view.bits),
        "worst": [_worst(view, tokenizer, *found) for found in zip(view.worst(WORST), lines, strict=True)],
        "copied": _copied(copied, view, tokenizer, text),
    }


def _by_rank(view: "Surprisal") -> list[dict[str, Any]]:
    rows, low = [], 0
    for limit in (*RANKS, None):
        here = view.ranks > low
        here = here & (view.ranks <= limit) if limit else here
        mean = float(view.bits[here].mean(dtype=np.float64)) if here.any() else None
        rows.append({"from": low + 1, "to": limit, "count": int(here.sum()), "bits": mean})
        low = limit or low
    return rows


def curve_of(bits: np.ndarray) -> list[list[float]]:
    """Return the place of the first token of each part of the text, and the part's mean in bits."""
    edges = np.linspace(0, len(bits), min(MOST_POINTS, len(bits)) + 1).astype(int)
    sums = np.concatenate(([0.0], np.cumsum(bits, dtype=np.float64)))
    means = (sums[edges[1:]] - sums[edges[:-1]]) / (edges[1:] - edges[:-1])
    return [[int(start) + 1, round(float(mean), 3)] for start, mean in zip(edges, means, strict=False)]


def text_before(view: "Surprisal", tokenizer: "Tokenizer", place: int) -> str:
    """Return the end of the text before a token, on one line."""
    data = tokenizer.decode_bytes(view.ids[max(0, place - BEFORE) : place].tolist())
    return tail(one_line(data.decode("utf-8", "surrogateescape")), BEFORE)


def _worst(view: "Surprisal", tokenizer: "Tokenizer", place: int, line: int) -> dict[str, Any]:
    return {
        "place": place,
        "line": line,
        "before": text_before(view, tokenizer, place),
        "token": visible(tokenizer.token_bytes(int(view.ids[place]))),
        "bits": float(view.bits[place - 1]),
        "rank": int(view.ranks[place - 1]),
        "expected": visible(tokenizer.token_bytes(int(view.best[place - 1]))),
        "share": float(np.exp(-view.best_nats[place - 1])),
    }


def _copied(
    copied: "Copied | str", view: "Surprisal", tokenizer: "Tokenizer", text: str
) -> dict[str, Any] | str:
    """Return the longest passages, each with its tokens [first, last) where these are the text's bytes."""
    if isinstance(copied, str):
        return one_line(copied)
    pieces = [tokenizer.token_bytes(token) for token in view.ids.tolist()]
    pieces[: len(tokenizer.prefix)] = [b""] * len(tokenizer.prefix)
    data = text.encode("utf-8", "surrogatepass")
    ends = np.array(list(accumulate(map(len, pieces))))
    exact = b"".join(pieces) == data
    # How many bytes come before each character.
    before = np.concatenate(([0], np.cumsum([len(char.encode("utf-8", "surrogatepass")) for char in text])))
    passages = sorted(copied.passages, key=lambda passage: (passage.start - passage.stop, passage.start))
    rows = [
        {
            "tokens": [
                int(np.searchsorted(ends, before[passage.start], "right")),
                int(np.searchsorted(ends, before[passage.stop], "left")) + 1,
            ]
            if exact
            else None,
            "length": passage.stop - passage.start,
            "text": head(one_line(text[passage.start : passage.stop][:100]), 100),
            "file": one_line(passage.file),
            "line": passage.line,
            "offset": passage.offset,
        }
        for passage in passages[:MOST_PASSAGES]
    ]
    return {"share": copied.share, "least": copied.least, "count": len(passages), "passages": rows}

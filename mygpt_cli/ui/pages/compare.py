"""Two checkpoints as data for a page: every token of a text by both, the next token, the weights."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mygpt_cli.ui.pages.steps import broken
from mygpt_cli.ui.pages.surprisal import curve_of, text_before
from mygpt_cli.ui.text import one_line, visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.compare import Comparison
    from mygpt_cli.inspection.surprisal import Surprisal
    from mygpt_cli.tokens.tokenizer import Tokenizer

MOST_TOKENS = 20_000
MOST_MOVED = 30
MEASURES = ("bits_per_byte", "nats_per_token", "perplexity")


def compare_page(view: "Comparison", tokenizer: "Tokenizer", verdict: str) -> dict[str, Any]:
    """Return what a page needs to show two checkpoints, token by token where their tokens are the same."""
    measures = MEASURES if view.same_tokens else MEASURES[:1]
    changes = view.changes
    return {
        "sides": [{"folder": one_line(side.folder), "step": side.step} for side in view.sides],
        "same_tokens": view.same_tokens,
        "verdict": verdict,
        "measures": [
            [name.replace("_", " "), *(float(getattr(text, name)) for text in view.texts)]
            for name in measures
        ]
        if view.texts
        else [],
        "text": _text(view.texts, changes, tokenizer)
        if view.texts and changes is not None and len(changes)
        else None,
        "next": [
            {"id": one.id, "token": visible(one.token), "a": one.probability, "b": one.other_probability}
            for one in view.next
        ],
        "divergence": view.divergence,
        "tensors": [
            vars(tensor) | {"name": one_line(tensor.name), "share": tensor.share} for tensor in view.tensors
        ],
        "unlike": [one_line(name) for name in view.unlike],
    }


def _text(
    texts: "tuple[Surprisal, Surprisal]", changes: np.ndarray, tokenizer: "Tokenizer"
) -> dict[str, Any]:
    """Return the first tokens of a text by both, its curves, and the places that differ most."""
    size = min(len(texts[0].ids), MOST_TOKENS)
    ids = texts[0].ids[:size].tolist()
    sides = [_side(text, size) for text in texts]
    order = np.argsort(-np.abs(changes), kind="stable")[: min(MOST_MOVED, np.count_nonzero(changes))]
    moved = [_moved(texts, tokenizer, at + 1) for at in order.tolist()]
    names = {token: tokenizer.token_bytes(token) for token in {*ids, *sides[0]["best"], *sides[1]["best"]}}
    return {
        "tokens": {token: broken(name) for token, name in names.items()},
        "shown": {token: visible(name) for token, name in names.items()},
        "ids": ids,
        "count": len(changes),
        "sides": sides,
        "curves": [curve_of(text.bits) for text in texts],
        "moved": moved,
        "better": int((changes < 0).sum()),
        "worse": int((changes > 0).sum()),
    }


def _side(text: "Surprisal", size: int) -> dict[str, Any]:
    return {
        "bits": [round(bits, 3) for bits in text.bits[: size - 1].tolist()],
        "ranks": text.ranks[: size - 1].tolist(),
        "best": text.best[: size - 1].tolist(),
    }


def _moved(texts: "tuple[Surprisal, Surprisal]", tokenizer: "Tokenizer", place: int) -> dict[str, Any]:
    return {
        "place": place,
        "before": text_before(texts[0], tokenizer, place),
        "token": visible(tokenizer.token_bytes(int(texts[0].ids[place]))),
        "bits": [round(float(text.bits[place - 1]), 3) for text in texts],
    }

"""The prediction after each layer as data for a page: the best tokens at the last positions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mygpt_cli.ui.text import visible

if TYPE_CHECKING:
    from torch import Tensor

    from mygpt_cli.inspection.lens import Guess, Position
    from mygpt_cli.tokens.tokenizer import Tokenizer

TOP = 5  # tokens of each cell
MOST_CELLS = 6_000  # layers by positions
DIGITS = 6


def positions_for(views: Sequence["Position"]) -> int:
    """Return of how many positions, from the last on, a page shows the predictions."""
    return max(1, min(len(views), MOST_CELLS // len(views[0].guesses)))


def lens_page(
    views: Sequence["Position"], tokenizer: "Tokenizer", ids: "Tensor", probs: "Tensor"
) -> dict[str, Any]:
    """Return what a page needs to show the best tokens (L + 1, N, K) and their probabilities."""
    shown = views[-ids.size(1) :]
    names = {int(token): visible(tokenizer.token_bytes(int(token))) for token in ids.unique(sorted=True)}  # type: ignore[no-untyped-call]
    names |= {view.answer: visible(view.answer_token) for view in shown}
    return {
        "total": views[-1].index,
        "tokens": names,
        "positions": [
            {
                "index": view.index,
                "token": visible(view.token),
                "answer": view.answer,
                "decided": view.decided,
                "guesses": [
                    _guess(guess, ids[layer, at].tolist(), probs[layer, at].tolist())
                    for layer, guess in enumerate(view.guesses)
                ],
            }
            for at, view in enumerate(shown)
        ],
    }


def _guess(guess: "Guess", ids: list[int], probs: list[float]) -> dict[str, Any]:
    return {
        "ids": ids,
        "probs": [float(f"{share:.{DIGITS}g}") for share in probs],
        "rank": guess.answer_rank,
        "share": float(f"{guess.answer_probability:.{DIGITS}g}"),
        "entropy": round(guess.entropy, 4),
        "away": round(guess.divergence, 4),
    }

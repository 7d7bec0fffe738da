"""Attention as data for a page: every head's weights among the last tokens, and what each head does."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mygpt_cli.ui.text import visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.attention import AttentionView, HeatMap

MOST_WEIGHTS = 500_000  # on a page, over all heads
UNIT = 1000  # weights are whole thousandths


def attention_page(view: "AttentionView", maps: Sequence["HeatMap"]) -> dict[str, Any]:
    """Return what a page needs to show the heads of a view, of which there is a map each."""
    size, total = len(maps[0].weights), len(view.tokens)
    weights = {(found.layer, found.head): found.weights for found in maps}
    every = view.contributions
    return {
        "first": view.before + total - size,
        "cut": total - size,
        "total": view.before + total,
        "tokens": [visible(token) for token in view.tokens[total - size :]],
        "unit": UNIT,
        "answer": visible(view.answer_token),
        "rival": visible(view.rival_token),
        "probability": view.probability,
        "heads": [
            {
                "layer": head.layer,
                "head": head.head,
                "kind": head.kind,
                "share": head.share,
                "named": head.named,
                "measures": vars(head.measures),
                "logit": head.logit,
                "probability": head.probability,
                "weights": [[round(UNIT * w) for w in row] for row in weights[head.layer, head.head]],
            }
            for head in view.heads
        ],
        "logit": every.logit,
        "lead": every.lead,
        "parts": [vars(part) for part in (*every.parts, every.rounding)],
    }

"""The life of a token as data for a page: each stage in numbers, how attention weights come about, logits."""

from typing import TYPE_CHECKING, Any

from mygpt_cli.inspection.closeup import best_logits, scores_of
from mygpt_cli.inspection.life import stages_of
from mygpt_cli.ui.life import origin_of, sentence_of
from mygpt_cli.ui.pages.steps import broken
from mygpt_cli.ui.text import visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.closeup import Scores
    from mygpt_cli.inspection.life import LifeView, Stage
    from mygpt_cli.inspection.trace import Trace
    from mygpt_cli.tokens.tokenizer import Tokenizer

LONGEST = 2000  # characters of the text
MOST_VALUES = 60_000  # over all stages,
STAGE_VALUES = 512  # and of one stage
MOST_KEYS = 40_000  # numbers of keys over all heads
MATCHES = 20  # positions of each head
BEST = 400  # logits


def life_page(view: "LifeView", traced: "Trace", tokenizer: "Tokenizer") -> dict[str, Any]:
    """Return what a page needs to show the life of the last token of a trace, which is that of the view."""
    layers = sorted({stage.layer - 1 for stage in view.stages if stage.layer is not None})
    stages = list(stages_of(traced, layers))
    most = max(16, min(STAGE_VALUES, MOST_VALUES // len(stages)))
    chosen = {(head.layer, head.head): head for head in view.heads}
    scores = [
        found
        for found in scores_of(traced, layers, tokenizer, position=view.position, most=MATCHES)
        if (found.layer, found.head) in chosen
    ]
    numbers = sum(len(found.query) for found in scores)
    keys = max(1, min(MATCHES, MOST_KEYS // max(1, numbers)))
    best = best_logits(traced, tokenizer, BEST)
    text = broken(view.context)
    return {
        "position": view.position,
        "length": view.length,
        "text": text[-LONGEST:],
        "left_out": max(0, len(text) - LONGEST),
        "token": visible(view.token),
        "bytes": view.token.hex(" ").upper(),
        "origin": origin_of(view),
        "merges": [[visible(left), visible(right)] for left, right in view.merges] if view.merged else [],
        "id": view.id,
        "vocab_size": view.vocab_size,
        "norm": view.norm,
        "gain": view.norm_gain,
        "layers": view.layers,
        "stages": [_stage(view, stage, most) for stage in stages],
        "heads": [
            {name: _short(getattr(chosen[found.layer, found.head], name)) for name in _NORMS}
            | _scores(found, keys)
            for found in scores
        ],
        "logits": [
            [one.id, visible(one.token), float(f"{one.logit:.6g}"), float(f"{one.probability:.6g}")]
            for one in best
        ],
        "choice": _choice(view),
        "follows": None
        if view.follows is None
        else {"token": visible(view.follows.token), "rank": view.follows.rank}
        | {"probability": view.follows.probability},
        "difference": view.difference,
    }


_NORMS = ("query", "key", "value", "output")


def _stage(view: "LifeView", stage: "Stage", most: int) -> dict[str, Any]:
    """Return a stage with up to so many of its values."""
    return {
        "number": stage.number,
        "layer": stage.layer,
        "name": stage.name,
        "shape": stage.shape,
        "norm": _short(stage.norm),
        "mean": _short(sum(stage.values) / len(stage.values)),
        "cosine": stage.cosine,
        "active": stage.active,
        "told": sentence_of(view, stage),
        "values": [_short(value) for value in stage.values[:most]],
    }


def _scores(found: "Scores", keys: int) -> dict[str, Any]:
    """Return how a head weighs positions, of which only the best have their keys."""
    return {
        "layer": found.layer,
        "head": found.head,
        "vector": [_short(value) for value in found.query],
        "positions": found.positions,
        "log_sum": float(f"{found.log_sum:.6g}"),
        "rest": found.rest,
        "matches": [
            {
                "position": match.position,
                "token": visible(match.token),
                "product": float(f"{match.product:.6g}"),
                "weight": float(f"{match.weight:.6g}"),
                "key": [_short(value) for value in match.key] if rank < keys else None,
            }
            for rank, match in enumerate(found.matches)
        ],
    }


def _choice(view: "LifeView") -> dict[str, Any]:
    choice = view.choice
    return {
        "filters": choice.filters,
        "draw": choice.draw,
        "candidates": [
            vars(candidate) | {"token": visible(candidate.token)} for candidate in choice.candidates
        ],
        "others": choice.others.count,
        "share": choice.others.final_probability,
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")

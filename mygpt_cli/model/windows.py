"""The attention windows of new models: a model reads on, and meets no distance that it was not trained on."""

from typing import Any

from mygpt_cli.model.config import LARGEST_TABLE, LONGEST_CONTEXT, ModelConfig

WINDOWS = 8  # in a context


def windowed(trained: int, layers: int, head_width: int) -> dict[str, Any]:
    """Return the context and the windows of a model whose training sequences have so many tokens.

    Attention looks back no further than such a sequence, in all layers.
    """
    context = max(trained, min(WINDOWS * trained, LONGEST_CONTEXT, LARGEST_TABLE // max(1, head_width)))
    return {"context": context, "window": trained, "windowed": tuple(range(layers))}


def read_in_a_row(model: ModelConfig, trained: int) -> int:
    """Return how many tokens to validate a model on in a row, which is trained on sequences of so many.

    That is such a sequence, or several where attention looks back no further than one.
    """
    if len(model.windowed) < model.layers or model.window > trained:
        return trained
    return min(model.context, WINDOWS * trained)

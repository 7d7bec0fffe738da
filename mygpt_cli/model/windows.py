"""Attention windows of new models, which let a model read longer texts than the sequences of its training."""

from typing import Any

from mygpt_cli.model.config import LARGEST_TABLE, LONGEST_CONTEXT, ModelConfig

WINDOWS = 8  # in a context


def windowed(trained: int, layers: int, head_width: int) -> dict[str, Any]:
    """Return the context and the windows of a model, given the length of its training sequences in tokens.

    Attention looks back no further than such a sequence, in all layers: so no distance is new to it.
    """
    context = max(trained, min(WINDOWS * trained, LONGEST_CONTEXT, LARGEST_TABLE // max(1, head_width)))
    return {"context": context, "window": trained, "windowed": tuple(range(layers))}


def read_in_a_row(model: ModelConfig, trained: int) -> int:
    """Return how many tokens validation reads in a row, given the length of the training sequences.

    That is as many; or several times as many, where attention looks back no further than one sequence.
    """
    if len(model.windowed) < model.layers or model.window > trained:
        return trained
    return min(model.context, WINDOWS * trained)

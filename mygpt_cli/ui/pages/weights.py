"""The tensors of a model as data for a page: a finer histogram of each, and a map of its blocks."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mygpt_cli.inspection.weights import blocks_of, histogram_of
from mygpt_cli.ui.text import one_line

if TYPE_CHECKING:
    from torch import Tensor

    from mygpt_cli.inspection.weights import Weights
    from mygpt_cli.model.gpt import GPT

BINS = 64
MOST_CELLS = 60_000  # of all maps,
SIDE = 48  # and each way of one
VALUES = 1024  # of a tensor of one dimension


def weights_page(model: "GPT", tensors: Sequence["Weights"]) -> dict[str, Any]:
    """Return what a page needs to show the tensors of a model, of which these are all."""
    side = max(4, min(SIDE, math.isqrt(MOST_CELLS // len(tensors))))
    parameters = dict(model.named_parameters())
    return {"tensors": [_tensor(tensor, parameters[tensor.name], side) for tensor in tensors]}


def _tensor(tensor: "Weights", numbers: "Tensor", side: int) -> dict[str, Any]:
    shown = vars(tensor) | {"name": one_line(tensor.name), "histogram": histogram_of(numbers, BINS)}
    if numbers.dim() < 2:
        return shown | {"values": [_short(value) for value in numbers.flatten()[:VALUES].tolist()]}
    blocks = blocks_of(numbers, side)
    shown |= {"block": blocks.size, "means": _rows(blocks.means)}
    return shown if blocks.size == (1, 1) else shown | {"spreads": _rows(blocks.spreads)}


def _rows(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[_short(value) for value in row] for row in rows]


def _short(value: float) -> float:
    return float(f"{value:.3g}")

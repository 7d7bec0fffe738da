"""How far a new model reads, and how much of it validation takes in a row."""

import pytest

from mygpt_cli.model.windows import read_in_a_row, windowed
from tests.helpers.models import random_model


@pytest.mark.parametrize(
    ("trained", "head_width", "context"),
    [(256, 64, 2048), (2**17, 64, 2**18), (2**18, 64, 2**18), (2**16, 128, 2**17)],
)
def test_a_context_is_eight_windows_or_as_much_as_a_model_may_have(
    trained: int, head_width: int, context: int
) -> None:
    assert windowed(trained, 2, head_width) == {"context": context, "window": trained, "windowed": (0, 1)}


@pytest.mark.parametrize(
    ("window", "layers", "trained", "row"),
    [(16, (0, 1), 16, 128), (16, (0, 1), 32, 256), (16, (0,), 16, 16), (16, (0, 1), 8, 8), (0, (), 16, 16)],
)
def test_several_sequences_are_read_in_a_row_where_no_distance_is_new(
    window: int, layers: tuple[int, ...], trained: int, row: int
) -> None:
    model = random_model(arch="qwen3", context=512, window=window, windowed=layers)
    assert read_in_a_row(model.config, trained) == row


def test_no_more_is_read_in_a_row_than_a_context() -> None:
    model = random_model(arch="qwen3", context=24, window=16, windowed=(0, 1))
    assert read_in_a_row(model.config, 16) == 24

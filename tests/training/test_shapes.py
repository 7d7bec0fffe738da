"""The shapes that are chosen: heads for any width."""

import pytest

from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.sizing import plan
from tests.helpers.speeds import slow


@pytest.mark.parametrize("width", [1, 2, 6, 7, 64, 100, 96, 768])
def test_heads_divide_any_width(width: int, tiny_dataset: Dataset) -> None:
    arch = "gpt2" if width % 2 else "nanochat"
    if width >= 2:
        assert width % plan({"width": width, "arch": arch}, tiny_dataset, slow).config(10).heads == 0


@pytest.mark.parametrize(
    ("width", "heads"), [(32, 1), (62, 1), (64, 2), (70, 1), (96, 2), (128, 2), (192, 3), (224, 4), (768, 12)]
)
def test_there_are_two_heads_where_they_can_be_wide_enough(
    width: int, heads: int, tiny_dataset: Dataset
) -> None:
    assert plan({"width": width}, tiny_dataset, slow).config(10).heads == heads

"""Dropout masks: the right share, the same for the same seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.model.masks import DropoutMasks


def new_masks(p: float, seed: int = 1) -> DropoutMasks:
    return DropoutMasks(p, seed=seed, dtype=torch.float32, device=torch.device("cpu"))


@settings(max_examples=10)
@given(st.floats(0.01, 0.9))
def test_a_share_is_zero_and_the_mean_is_kept(p: float) -> None:
    mask = new_masks(p).draw(400, 500)
    assert (mask == 0).double().mean().item() == pytest.approx(p, abs=0.007)
    assert mask.double().mean().item() == pytest.approx(1.0, abs=0.05)


def test_masks_are_a_function_of_their_seed() -> None:
    masks = new_masks(0.2)
    masks.start(5)
    first = [masks.draw(30, 7), masks.draw(100)]
    masks.draw(3)
    masks.start(5)
    again = [masks.draw(30, 7), masks.draw(100)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    masks.start(6)
    assert not torch.equal(masks.draw(30, 7), first[0])
    assert not torch.equal(first[1][:30], first[0][:, 0])


def test_a_mask_may_be_larger_than_the_pool() -> None:
    mask = new_masks(0.5).draw(3000, 3000)
    assert mask.shape == (3000, 3000)
    assert (mask == 0).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_rows_of_a_mask_are_those_of_the_whole() -> None:
    """Whoever takes some rows of a later pass draws what one that takes all passes would draw for them."""
    masks, other = new_masks(0.3), new_masks(0.3)
    masks.start(5)
    whole = [[masks.draw(6, 4, 3) for _ in range(2)] for _ in range(3)]
    for passes in (((0, slice(0, 6)), (2, slice(5, 6))), ((1, slice(2, 4)), (2, slice(0, 3)))):
        other.start(5)
        for number, rows in passes:
            other.go_to(number, 2, (6, 4, 3), rows)
            for mask in whole[number]:
                assert torch.equal(other.draw(rows.stop - rows.start, 4, 3), mask[rows])

"""Dropout masks: the right share, the same for the same seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.model.masks import DropoutMasks


def new_masks(p: float, seed: int = 1) -> DropoutMasks:
    return DropoutMasks(p, seed=seed, dtype=torch.float32, device=torch.device("cpu"))


@settings(max_examples=10, deadline=None)
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

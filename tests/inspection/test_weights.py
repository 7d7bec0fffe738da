"""The tensors in numbers, against torch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.inspection.weights import BINS, blocks_of, moved, weights_of
from tests.helpers.standins import random_model


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_each_tensor_against_torch(arch: str) -> None:
    model = random_model(300, arch=arch)
    described = weights_of(model)
    assert [weights.name for weights in described] == [name for name, _ in model.named_parameters()]
    for weights, (_, tensor) in zip(described, model.named_parameters(), strict=True):
        assert weights.shape == tuple(tensor.shape)
        assert weights.norm == pytest.approx(float(torch.linalg.vector_norm(tensor)), rel=1e-5)
        assert weights.mean == pytest.approx(float(tensor.mean()), abs=1e-6)
        assert weights.deviation == pytest.approx(float(tensor.var(unbiased=False).sqrt()), rel=1e-4)
        assert (weights.low, weights.high) == (float(tensor.amin()), float(tensor.amax()))
        assert len(weights.histogram) == BINS
        assert sum(weights.histogram) == tensor.numel()


def test_a_tensor_of_equal_numbers() -> None:
    model = random_model(20)
    with torch.no_grad():
        model.norm.weight.fill_(1.0)  # type: ignore[union-attr]
    (weights,) = [weights for weights in weights_of(model) if weights.name == "norm.weight"]
    assert (weights.low, weights.high, weights.deviation, sum(weights.histogram)) == (1.0, 1.0, 0.0, 16)


def test_how_far_two_are_apart() -> None:
    model, other = random_model(20), random_model(20)
    assert all(tensor.distance == 0 and tensor.cosine == 1 for tensor in moved(model, other)[0])
    with torch.no_grad():
        other.embedding.mul_(-2)
        other.norm.weight.zero_()  # type: ignore[union-attr]
    tensors = {tensor.name: tensor for tensor in moved(model, other)[0]}
    turned = tensors["embedding"]
    assert turned.share == pytest.approx(3)
    assert turned.cosine == pytest.approx(-1)
    assert turned.other_norm == pytest.approx(2 * turned.norm)
    assert tensors["norm.weight"].cosine is None
    assert not any(math.isnan(tensor.distance) for tensor in tensors.values())


def test_tensors_that_only_one_has() -> None:
    tensors, unlike = moved(random_model(20), random_model(20, arch="nanochat", context=10))
    assert "embedding" in [tensor.name for tensor in tensors]
    assert {"positions", "norm.weight", "head.weight"} <= set(unlike)
    assert moved(random_model(20), random_model(21))[1][0] == "embedding"


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_blocks_are_means_of_what_they_cover(rows: int, columns: int, side: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * 41 + columns))
    blocks = blocks_of(matrix, side)
    down, across = blocks.size
    assert len(blocks.means) <= side
    assert len(blocks.means[0]) <= side
    assert len(blocks.means) == math.ceil(rows / down)
    for y, row in enumerate(blocks.means):
        for x, mean in enumerate(row):
            block = matrix[y * down : (y + 1) * down, x * across : (x + 1) * across].double()
            assert mean == pytest.approx(float(block.mean()), abs=1e-9)
            assert blocks.spreads[y][x] == pytest.approx(float(block.square().mean().sqrt()), abs=1e-9)

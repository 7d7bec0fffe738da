"""The written-out gradient against torch's own differentiation of the model."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mygpt_cli.model import fused
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.masks import Masks
from tests.test_model_gpt import random_model


def gradients(loss: Tensor, model: GPT) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plain_loss(model: GPT, ids: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 4),
    time=st.integers(1, 24),
    heads=st.sampled_from([1, 2, 4, 8]),
    softcap=st.sampled_from([0.0, 3.0, 15.0]),
    tied=st.booleans(),
)
def test_loss_and_every_gradient_are_those_of_the_model(
    batch: int, time: int, heads: int, softcap: float, tied: bool
) -> None:
    model = random_model(arch="nanochat", heads=heads, softcap=softcap, tied=tied)
    assert fused.applies(model)
    rng = torch.Generator().manual_seed(time)
    ids, targets = torch.randint(0, 53, (2, batch, time), generator=rng)
    ours = fused.loss(model, ids, targets, None)
    theirs = plain_loss(model, ids, targets)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    expected = gradients(theirs, model)
    for name, gradient in gradients(ours, model).items():
        torch.testing.assert_close(gradient, expected[name], atol=2e-6, rtol=2e-4, msg=name)


def test_in_bfloat16_the_gradient_points_the_same_way() -> None:
    model = random_model(arch="nanochat", width=64)
    ids, targets = torch.randint(0, 53, (2, 8, 24), generator=torch.Generator().manual_seed(1))
    expected = gradients(plain_loss(model, ids, targets), model)
    model.compute_dtype = torch.bfloat16
    for name, gradient in gradients(fused.loss(model, ids, targets, None), model).items():
        alike = F.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0)
        assert alike > 0.99, name
        assert gradient.norm().item() == pytest.approx(expected[name].norm().item(), rel=0.05), name


def test_dropout_by_finite_differences() -> None:
    """With masks the loss is another function; its gradient must still be its slope."""
    model = random_model(arch="nanochat").double()
    model.compute_dtype = torch.float64
    ids, targets = torch.randint(0, 53, (2, 2, 9), generator=torch.Generator().manual_seed(2))
    masks = Masks(0.3, seed=1, dtype=torch.float64, device=torch.device("cpu"))

    def loss() -> Tensor:
        masks.start(3)
        return fused.loss(model, ids, targets, masks)

    expected = gradients(loss(), model)
    rng = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                values.append(loss().item())
                parameter.sub_(direction, alpha=step)
        slope = (values[0] - values[1]) / 2e-5
        assert (expected[name] * direction).sum().item() == pytest.approx(slope, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize(
    "variant",
    [{"arch": "gpt2"}, {"arch": "nanochat", "kv_heads": 2}, {"arch": "nanochat", "attention_bias": True}],
    ids=str,
)
def test_other_variants_are_left_to_torch(variant: dict[str, Any]) -> None:
    model = random_model(**variant)
    assert not fused.applies(model)
    ids, targets = torch.randint(0, 53, (2, 2, 9), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(model.loss(ids, targets), plain_loss(model, ids, targets))

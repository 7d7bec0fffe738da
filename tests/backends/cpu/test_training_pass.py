"""The written-out pass against torch's own differentiation of the model."""

import platform
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mygpt_cli.backends.cpu import training_pass as fused
from mygpt_cli.backends.cpu.kernels import LARGEST, Kernels, compile_kernels
from mygpt_cli.backends.cpu.native import compile_library, training_options
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.masks import Masks
from tests.helpers.parts import LIKE_LLAMA, like_llama
from tests.model.test_gpt import random_model


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[torch.dtype, Kernels]:
    folder = tmp_path_factory.mktemp("kernels")
    return {dtype: compile_kernels(dtype, folder) for dtype in (torch.float32, torch.bfloat16)}


def learn(
    model: GPT, ids: Tensor, targets: Tensor, masks: Masks | None = None, share: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss and its gradients."""
    model.zero_grad()
    loss = model.learn(ids, targets, masks, share)
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def learn_by_torch(
    model: GPT, ids: Tensor, targets: Tensor, masks: Masks | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    kernels, model.kernels = model.kernels, None
    learned = learn(model, ids, targets, masks)
    model.kernels = kernels
    return learned


variants = st.fixed_dictionaries(
    {
        "arch": st.sampled_from(["gpt2", "nanochat"]),
        "heads": st.sampled_from([1, 2, 4, 8]),
        "tied": st.booleans(),
        "attention_bias": st.booleans(),
        "activation": st.sampled_from(fused.ACTIVATIONS),
        "softcap": st.sampled_from([0.0, 3.0, 15.0]),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    variant=variants,
    bias=st.booleans(),
    batch=st.integers(1, 4),
    time=st.integers(1, 24),
    p=st.sampled_from([0, 0.3]),
)
def test_loss_and_every_gradient_are_those_of_the_model(
    kernels: dict[torch.dtype, Kernels], variant: dict[str, Any], bias: bool, batch: int, time: int, p: float
) -> None:
    if variant["arch"] == "gpt2":
        variant |= {"softcap": 0.0, "bias": bias}
    model = random_model(**variant)
    model.kernels = kernels[torch.float32]
    assert fused.applies(model)
    rng = torch.Generator().manual_seed(time)
    ids, targets = torch.randint(0, 53, (2, batch, time), generator=rng)
    masks = Masks(p, seed=1, dtype=torch.float32, device=torch.device("cpu")) if p else None
    learned = []
    for by in (learn_by_torch, learn):
        if masks:
            masks.start(3)
        learned.append(by(model, ids, targets, masks))
    (theirs, expected), (ours, gradient) = learned
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    if not masks:
        with torch.no_grad():
            assert model.loss(ids, targets) == ours
    assert gradient.keys() == expected.keys()
    for name, of_one in gradient.items():
        torch.testing.assert_close(of_one, expected[name], atol=5e-6, rtol=5e-4, msg=name)


@pytest.fixture(scope="session")
def lesser_kernels(tmp_path_factory: pytest.TempPathFactory) -> list[Kernels]:
    """What processors get that have no tiles, or no bfloat16 at all."""
    folder = tmp_path_factory.mktemp("lesser")
    lesser = ["-DNO_TILES", *["-march=haswell"] * (platform.machine() in ("x86_64", "AMD64"))]
    libraries = (compile_library("kernels", [*training_options("bfloat16"), it], folder) for it in lesser)
    return [Kernels(library, torch.bfloat16) for library in libraries]


@pytest.mark.parametrize("time", [24, 70])
@pytest.mark.parametrize(
    "new_model",
    [
        partial(random_model, arch="gpt2"),
        partial(random_model, arch="gpt2", bias=False),
        partial(random_model, arch="nanochat"),
        partial(random_model, arch="nanochat", mlp_width=90, activation="relu"),
        partial(like_llama, kv_heads=2, mlp_width=90),
        partial(like_llama, **LIKE_LLAMA["qwen3"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("largest", [LARGEST, 5000], ids=["all", "some"])
def test_in_bfloat16_the_gradient_points_the_same_way(
    kernels: dict[torch.dtype, Kernels],
    lesser_kernels: list[Kernels],
    monkeypatch: pytest.MonkeyPatch,
    new_model: Callable[..., GPT],
    time: int,
    largest: int,
) -> None:
    """With tiles, and without; with all layers by them, and without the larger ones."""
    monkeypatch.setattr("mygpt_cli.backends.cpu.kernels.LARGEST", largest)
    model = new_model(width=64, context=70)
    ids, targets = torch.randint(0, 53, (2, 8, time), generator=torch.Generator().manual_seed(1))
    _, expected = learn_by_torch(model, ids, targets)
    model.compute_dtype = torch.bfloat16
    for each in (kernels[torch.bfloat16], *lesser_kernels):
        model.kernels = each
        for name, gradient in learn(model, ids, targets)[1].items():
            alike = F.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0)
            assert alike > 0.99, name
            assert gradient.norm().item() == pytest.approx(expected[name].norm().item(), rel=0.05), name


NANOCHAT = partial(random_model, arch="nanochat")
LIKE = [partial(like_llama, **parts) for parts in LIKE_LLAMA.values()]


@pytest.mark.parametrize("time", [1, 32, 33, 100])
@pytest.mark.parametrize("new_model", [NANOCHAT, *LIKE], ids=["nanochat", *LIKE_LLAMA])
def test_sequences_are_gone_through_block_by_block(
    kernels: dict[torch.dtype, Kernels], new_model: Callable[..., GPT], time: int
) -> None:
    model = new_model(context=100)
    ids, targets = torch.randint(0, 53, (2, 3, time), generator=torch.Generator().manual_seed(4))
    _, expected = learn_by_torch(model, ids, targets)
    model.kernels = kernels[torch.float32]
    assert fused.applies(model)
    for name, gradient in learn(model, ids, targets)[1].items():
        torch.testing.assert_close(gradient, expected[name], atol=5e-6, rtol=5e-4, msg=name)


def test_a_share_of_the_loss_has_that_share_of_the_gradient(kernels: dict[torch.dtype, Kernels]) -> None:
    model = random_model(arch="nanochat")
    model.kernels = kernels[torch.float32]
    ids, targets = torch.randint(0, 53, (2, 2, 9), generator=torch.Generator().manual_seed(2))
    loss, whole = learn(model, ids, targets)
    quarter, parts = learn(model, ids, targets, share=0.25)
    torch.testing.assert_close(4 * quarter, loss)
    for name, part in parts.items():
        torch.testing.assert_close(4 * part, whole[name], msg=name)
    model.learn(ids, targets, share=0.75)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], msg=name)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_show_in_the_loss(
    kernels: dict[torch.dtype, Kernels], broken: float
) -> None:
    for dtype in kernels:
        model = random_model(arch="nanochat")
        model.compute_dtype, model.kernels = dtype, kernels[dtype]
        model.state_dict()["blocks.0.mlp.up.weight"][:2, 0] = torch.tensor([broken, -broken])
        ids = torch.zeros(1, 4, dtype=torch.int64)
        assert not model.learn(ids, ids).isfinite()


@pytest.mark.parametrize(
    "variant",
    [{"arch": "gpt2", "scale_by_layer": True}, {"arch": "gpt2", "activation": "gelu"}, {"arch": "nanochat"}],
    ids=str,
)
def test_other_variants_are_left_to_torch(
    kernels: dict[torch.dtype, Kernels], variant: dict[str, Any]
) -> None:
    model = random_model(**variant)
    if len(variant) > 1:
        model.kernels = kernels[torch.float32]  # and the last one has none
    assert not fused.applies(model)
    ids, targets = torch.randint(0, 53, (2, 2, 9), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(learn(model, ids, targets)[0], learn_by_torch(model, ids, targets)[0])

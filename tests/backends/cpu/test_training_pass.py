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

from mygpt_cli.backends.choice import Compilation
from mygpt_cli.backends.cpu.kernels import LARGEST, Kernels, compile_kernels
from mygpt_cli.backends.cpu.native import compile_library, training_options
from mygpt_cli.backends.cpu.training_pass import ACTIVATIONS, TrainingPass
from mygpt_cli.backends.interfaces import TrainingBackend
from mygpt_cli.backends.reference import Autograd
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.masks import DropoutMasks
from tests.helpers.models import random_model
from tests.helpers.parts import LIKE_LLAMA, like_llama


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[torch.dtype, Kernels]:
    folder = tmp_path_factory.mktemp("kernels")
    return {dtype: compile_kernels(dtype, folder) for dtype in (torch.float32, torch.bfloat16)}


def learn(
    model: GPT,
    backend: TrainingBackend,
    ids: Tensor,
    targets: Tensor,
    masks: DropoutMasks | None = None,
    loss_scale: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss and its gradients."""
    model.zero_grad()
    loss = backend.accumulate_gradients(ids, targets, masks, loss_scale)
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


variants = st.fixed_dictionaries(
    {
        "arch": st.sampled_from(["gpt2", "nanochat"]),
        "heads": st.sampled_from([1, 2, 4, 8]),
        "tied": st.booleans(),
        "attention_bias": st.booleans(),
        "activation": st.sampled_from(ACTIVATIONS),
        "softcap": st.sampled_from([0.0, 3.0, 15.0]),
    }
)


@settings(max_examples=60)
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
    assert TrainingPass.takes(model, kernels[torch.float32])
    backend = TrainingPass(model, kernels[torch.float32])
    rng = torch.Generator().manual_seed(time)
    ids, targets = torch.randint(0, 53, (2, batch, time), generator=rng)
    masks = DropoutMasks(p, seed=1, dtype=torch.float32, device=torch.device("cpu")) if p else None
    learned = []
    for by in (Autograd(model), backend):
        if masks:
            masks.start(3)
        learned.append(learn(model, by, ids, targets, masks))
    (theirs, expected), (ours, gradient) = learned
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    if not masks:
        assert backend.loss(ids, targets) == ours
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
        partial(like_llama, **LIKE_LLAMA["a window"]),
    ],
    ids=["gpt2", "gpt2, no biases", "nanochat", "nanochat, relu", "llama", "qwen3", "a window"],
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
    _, expected = learn(model, Autograd(model), ids, targets)
    model.compute_dtype = torch.bfloat16
    for each in (kernels[torch.bfloat16], *lesser_kernels):
        for name, gradient in learn(model, TrainingPass(model, each), ids, targets)[1].items():
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
    _, expected = learn(model, Autograd(model), ids, targets)
    assert TrainingPass.takes(model, kernels[torch.float32])
    backend = TrainingPass(model, kernels[torch.float32])
    for name, gradient in learn(model, backend, ids, targets)[1].items():
        torch.testing.assert_close(gradient, expected[name], atol=5e-6, rtol=5e-4, msg=name)


def test_a_scaled_loss_has_a_gradient_scaled_likewise(kernels: dict[torch.dtype, Kernels]) -> None:
    model = random_model(arch="nanochat")
    backend = TrainingPass(model, kernels[torch.float32])
    ids, targets = torch.randint(0, 53, (2, 2, 9), generator=torch.Generator().manual_seed(2))
    loss, whole = learn(model, backend, ids, targets)
    quarter, parts = learn(model, backend, ids, targets, loss_scale=0.25)
    torch.testing.assert_close(4 * quarter, loss)
    for name, part in parts.items():
        torch.testing.assert_close(4 * part, whole[name], msg=name)
    backend.accumulate_gradients(ids, targets, loss_scale=0.75)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], msg=name)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_show_in_the_loss(
    kernels: dict[torch.dtype, Kernels], broken: float
) -> None:
    for dtype in kernels:
        model = random_model(arch="nanochat")
        model.compute_dtype = dtype
        model.state_dict()["blocks.0.mlp.up.weight"][:2, 0] = torch.tensor([broken, -broken])
        ids = torch.zeros(1, 4, dtype=torch.int64)
        assert not TrainingPass(model, kernels[dtype]).accumulate_gradients(ids, ids).isfinite()


@pytest.mark.parametrize(
    "variant",
    [{"arch": "gpt2", "scale_by_layer": True}, {"arch": "gpt2", "activation": "gelu"}],
    ids=str,
)
def test_other_variants_are_left_to_torch(
    kernels: dict[torch.dtype, Kernels], variant: dict[str, Any]
) -> None:
    model = random_model(**variant)
    assert not TrainingPass.takes(model, kernels[torch.float32])
    backend = Compilation(kernels[torch.float32]).backend(model)
    assert isinstance(backend, Autograd)
    assert backend.muon is not None

"""AdamW and Muon, against torch's own."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mygpt_cli.backends.cpu.kernels import compile_kernels
from mygpt_cli.backends.cpu.native import NONE, VARIABLE
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.training.optimizer import Muon, Optimizer, orthogonalise
from tests.conftest import tiny_config
from tests.helpers.models import random_model

compiles = pytest.mark.skipif(os.environ.get(VARIABLE) == NONE, reason="compiled code is turned off")


def with_gradients(model: GPT, step: int) -> GPT:
    rng = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter).normal_(generator=rng)
    return model


def weights(model: GPT) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=compiles)])
@pytest.mark.parametrize(("width", "wide"), [(8, 32), (40, 100)])
def test_muon_is_torch_muon_on_each_of_query_key_and_value_with_rows_balanced(
    compiled: bool, width: int, wide: int, tmp_path: Path
) -> None:
    rng = torch.Generator().manual_seed(0)
    shape: dict[str, Any] = {"layers": 1, "heads": 2, "kv_heads": 1, "head_width": width}
    config = configure("nanochat", vocab_size=9, width=width, context=8, **shape)
    shapes = {
        "a.qkv.weight": (4 * width, width),
        "a.up.weight": (wide, width),
        "b.down.weight": (width, wide),
        "b.up.weight": (wide, width),
    }
    ours = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    cuts = {
        name: [2 * width, width, width] if "qkv" in name else [shape[0]] for name, shape in shapes.items()
    }

    def parts_of(tensors: dict[str, Tensor]) -> list[Tensor]:
        return [part.clone() for name, t in tensors.items() for part in torch.split(t, cuts[name])]

    expected = parts_of(ours)
    path = [torch.zeros_like(part).requires_grad_() for part in expected]  # what torch's steps add up to
    squares = [torch.zeros(len(part)) for part in expected]
    muon = Muon(ours, config, dtype=torch.bfloat16)
    kernels = compile_kernels(torch.bfloat16, tmp_path).muon if compiled else None
    reference = torch.optim.Muon(path, lr=1.0, weight_decay=0.0, momentum=0.95)
    for _ in range(3):
        gradients = {name: torch.randn(p.shape, generator=rng) for name, p in ours.items()}
        for name, p in ours.items():
            p.grad = gradients[name]
        for p, gradient in zip(path, parts_of(gradients), strict=True):
            p.grad = gradient
        muon.step(0.02, 0.1, kernels)
        before = [p.detach().clone() for p in path]
        reference.step()  # type: ignore[no-untyped-call]
        for i, (then, now) in enumerate(zip(before, path, strict=True)):
            step = now.detach() - then
            squares[i] = 0.95 * squares[i] + 0.05 * (step**2).mean(dim=1)
            rows = torch.stack([row / square.sqrt() for row, square in zip(step, squares[i], strict=True)])
            expected[i] = (1 - 0.02 * 0.1) * expected[i] + 0.02 * rows * step.norm() / rows.norm()
    for mine, other in zip(parts_of(ours), expected, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-3, rtol=0)


def test_orthogonalise_brings_singular_values_near_one() -> None:
    matrices = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(1))
    for result in (orthogonalise(matrices), orthogonalise(matrices.mT)):
        values = torch.linalg.svdvals(result)
        assert values.min() > 0.5
        assert values.max() < 1.3


@compiles
def test_compiled_muon_is_the_other_one_in_float32(tmp_path: Path) -> None:
    kernels = compile_kernels(torch.float32, tmp_path).muon
    rng = torch.Generator().manual_seed(2)
    for shape in ((3, 5), (33, 64), (128, 32), (70, 70), (20, 4000)):
        results = []
        start, gradients = torch.randn(shape, generator=rng), torch.randn(3, *shape, generator=rng)
        for each in (None, kernels):
            weight = torch.nn.Parameter(start.clone())
            muon = Muon({"up.weight": weight}, random_model(arch="gpt2").config, dtype=torch.float32)
            for gradient in gradients:
                weight.grad = gradient.clone()
                muon.step(0.02, 0.1, each)
            results.append((weight.detach(), *muon.state().values()))
        for mine, other in zip(*results, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def check_same_steps(
    ours: Optimizer, model: GPT, theirs: torch.optim.Optimizer, reference: GPT, names: tuple[str, ...] = ()
) -> None:
    """Take three steps at half the rate with both, and compare the parameters named, or all."""
    for step in range(3):
        with_gradients(model, step)
        with_gradients(reference, step)
        ours.step(0.5)
        theirs.step()
    for name in names or weights(model):
        torch.testing.assert_close(weights(model)[name], weights(reference)[name], msg=name)


def test_adamw_is_torch_adamw_and_decays_matrices_only() -> None:
    config = tiny_config(optimizer="adamw", weight_decay=0.3)
    model, reference = random_model(arch="gpt2"), random_model(arch="gpt2")
    theirs = torch.optim.AdamW(
        [
            {"params": [p for p in reference.parameters() if p.ndim >= 2], "weight_decay": 0.3},
            {"params": [p for p in reference.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=config.lr * 0.5,
        betas=(config.beta1, config.beta2),
    )
    check_same_steps(Optimizer(model, config), model, theirs, reference)


def test_beside_muon_the_embeddings_learn_faster_and_decay_as_the_head_does() -> None:
    config = tiny_config(weight_decay=0.3)
    model, reference = random_model(arch="nanochat"), random_model(arch="nanochat")
    assert reference.head
    lr = config.lr * 0.5
    theirs = torch.optim.AdamW(
        [
            {
                "params": [reference.embedding],
                "lr": 8 * lr,
                "weight_decay": 0.3 / 8,
            },
            {"params": [reference.head.weight], "lr": lr, "weight_decay": 0.3},
        ],
        betas=(config.beta1, config.beta2),
    )
    check_same_steps(Optimizer(model, config), model, theirs, reference, ("embedding", "head.weight"))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_a_restored_state_goes_on_with_the_same_bits(optimizer: str, arch: str) -> None:
    config = tiny_config(optimizer=optimizer)
    model = random_model(arch=arch)
    first = Optimizer(model, config)
    for step in range(2):
        with_gradients(model, step)
        first.step(1.0)
    kept_state = {name: t.clone() for name, t in first.state().items()}
    other = random_model(arch=arch)
    other.load_state_dict(weights(model))
    second = Optimizer(other, config)
    second.load_state(kept_state)
    for step in range(2, 4):
        for each, optim in ((model, first), (other, second)):
            with_gradients(each, step)
            optim.step(0.7)
    for name, value in weights(model).items():
        assert torch.equal(value, weights(other)[name]), name


@pytest.mark.parametrize("members", [1, 2])
def test_what_members_share_is_not_trained(members: int) -> None:
    """Of qwen3, whose heads have the same gain of queries, and of keys."""
    model = random_model(arch="qwen3")
    before = weights(with_gradients(model, 0))
    optimizer = Optimizer(model, tiny_config(members=members))
    optimizer.step(1.0)
    same = {name for name, value in weights(model).items() if torch.equal(value, before[name])}
    shared = {f"blocks.{i}.attention.{of}_norm.weight" for i in range(2) for of in ("query", "key")}
    assert shared <= before.keys()
    assert same == (shared if members > 1 else set())
    assert any("query_norm" in name for name in optimizer.state()) is (members == 1)


def test_a_state_of_another_model_is_refused() -> None:
    small, large = random_model(arch="nanochat"), random_model(arch="nanochat", layers=3, width=48)
    state = Optimizer(small, tiny_config())
    with_gradients(small, 0)
    state.step(1.0)
    with pytest.raises((KeyError, ValueError)):
        Optimizer(large, tiny_config()).load_state(state.state())

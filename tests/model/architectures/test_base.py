"""An architecture is one file, and a part works with every other: shown by adding a toy, and at random."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mygpt_cli.backends.cpu.decoder import WEIGHTS, CPUDecoder
from mygpt_cli.backends.cpu.decoder import takes as takes_decoding
from mygpt_cli.backends.cpu.kernels import Kernels, compile_kernels
from mygpt_cli.backends.cpu.native import compile_library
from mygpt_cli.backends.cpu.training_pass import TrainingPass
from mygpt_cli.backends.cpu.training_pass import takes as takes_training
from mygpt_cli.backends.reference import Autograd, ReferenceDecoder
from mygpt_cli.base.errors import UsageError
from mygpt_cli.checkpoints import checkpoint, saving
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import read_prompt
from mygpt_cli.inspection.life import view_life
from mygpt_cli.model.architectures import ARCHITECTURES, configure, find
from mygpt_cli.model.architectures.base import Architecture, Reader, Slot
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT
from tests.helpers.standins import byte_tokenizer


class Toy(Architecture):
    """Parts that no other architecture has, in a format of its own."""

    name = "toy"
    parts: ClassVar[Mapping[str, Any]] = {
        "positions": "rotary",
        "norm": "rms",
        "norm_gain": True,
        "norm_bias": False,
        "norm_eps": 1e-5,
        "qk_norm": "before",
        "qk_norm_gain": True,
        "activation": "silu",
        "gated": True,
        "tied": True,
    }
    embedding = "embedding"

    def slots(self, config: ModelConfig) -> Iterator[Slot]:
        with torch.device("meta"):
            for name, parameter in GPT(config).named_parameters():
                yield Slot(name, name, tuple(parameter.shape))

    def to_config(self, config: ModelConfig) -> dict[str, Any]:
        shape = ("layers", "heads", "kv_heads", "head_width", "width", "context", "mlp_width")
        return {name: getattr(config, name) for name in shape}

    def from_config(self, read: Reader) -> dict[str, Any]:
        shape = ("layers", "heads", "kv_heads", "head_width", "width", "context", "mlp_width", "vocab_size")
        return {name: read.whole(name) for name in shape}

    def initialise(self, name: str, parameter: Tensor, config: ModelConfig, rng: torch.Generator) -> None:
        parameter.normal_(0.0, 0.3, generator=rng)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> GPT:
    monkeypatch.setitem(ARCHITECTURES, "toy", Toy())
    shape: dict[str, Any] = {"layers": 2, "heads": 4, "width": 20, "mlp_width": 28}
    shape |= {"kv_heads": 2, "head_width": 6}
    model = GPT(configure("toy", vocab_size=257, context=32, **shape))
    model.initialise(torch.Generator().manual_seed(1))
    return model.requires_grad_(False)


def test_a_new_architecture_generates_and_learns(toy: GPT) -> None:
    ids = torch.randint(0, 257, (2, 12), generator=torch.Generator().manual_seed(2))
    whole = toy(ids)
    cache = toy.new_cache(2)
    torch.testing.assert_close(
        ReferenceDecoder(toy).prefill(ids[:, :5], cache), whole[:, 4], atol=1e-4, rtol=1e-4
    )
    for t in range(5, 12):
        expected = whole[:, t]
        logits, _ = ReferenceDecoder(toy).decode(ids[:, t].tolist(), cache)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    toy.requires_grad_(True)
    before = float(Autograd(toy).accumulate_gradients(ids[:, :-1], ids[:, 1:]))
    with torch.no_grad():
        for parameter in toy.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad, alpha=0.02)
        assert float(toy.loss(ids[:, :-1], ids[:, 1:])) < before


def test_a_new_architecture_is_saved_and_opened(toy: GPT, tmp_path: Path) -> None:
    state = {"format": 1, "step": 1, "steps": 1, "tokens": 1, "history": {}}
    saving.save(tmp_path / "toy", model=toy, tokenizer=byte_tokenizer(), state=state)
    back = checkpoint.load(tmp_path / "toy")
    assert back.config == toy.config
    for name, parameter in toy.named_parameters():
        assert torch.equal(back.model.get_parameter(name), parameter), name


def test_a_new_architecture_is_inspected(toy: GPT) -> None:
    tokenizer = byte_tokenizer()
    prompt = read_prompt(tokenizer, "hello", 32)
    view = view_life(ReferenceDecoder(toy), tokenizer, prompt, Sampling(seed=1))
    assert view.difference < 1e-4
    assert {"query", "units", "rotary cosines"} <= {stage.name for stage in view.stages}


def test_back_ends_take_an_architecture_by_its_parts(toy: GPT) -> None:
    for takes in (takes_training, takes_decoding):
        assert takes(toy.config)
        assert not takes(replace(toy.config, scale_by_layer=True))


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'nanochat'"):
        find("nanochats")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return compile_kernels(torch.float32, tmp_path_factory.mktemp("kernels"))


NORMS = [("layer", True, True), ("layer", True, False), ("rms", False, False), ("rms", True, False)]
NORMS += [("layer", False, False), ("rms", True, True)]
HEADS = [("learned", "none", False), ("rotary", "after", False), ("rotary", "before", True)]
HEADS += [("rotary", "none", False), ("learned", "before", False), ("learned", "after", False)]
HEADS += [("rotary", "after", True)]


@st.composite
def parts_of_models(draw: st.DrawFn) -> dict[str, Any]:
    """Draw any combination of parts."""
    norm, heads = draw(st.sampled_from(NORMS)), draw(st.sampled_from(HEADS))
    return {
        **dict(zip(("norm", "norm_gain", "norm_bias"), norm, strict=True)),
        **dict(zip(("positions", "qk_norm", "qk_norm_gain"), heads, strict=True)),
        **{name: draw(st.booleans()) for name in ("embedding_norm", "tied", "mlp_bias", "output_bias")},
        "attention_bias": draw(st.booleans()),
        "activation": draw(st.sampled_from(["relu2", "gelu_new", "gelu", "silu"])),
        "gated": draw(st.booleans()),
        "softcap": draw(st.sampled_from([0.0, 4.0])),
        "kv_heads": draw(st.sampled_from([1, 2, 4])),
        "head_width": draw(st.sampled_from([6, 8, 12])),
        "rope_clockwise": draw(st.booleans()),
        "unrotated": draw(st.sampled_from([(), (), (1,)])),
    }


@settings(max_examples=150)
@given(parts=parts_of_models())
def test_whatever_a_back_end_takes_is_what_the_model_computes(
    parts: dict[str, Any], kernels: Kernels, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape: dict[str, Any] = {"vocab_size": 53, "layers": 2, "heads": 4, "width": 32, "context": 16}
    try:
        config = ModelConfig(arch="gpt2", norm_eps=1e-5, **shape, **parts)
    except UsageError:
        assert parts["qk_norm"] == "after"
        assert parts["positions"] == "learned"
        return
    model = GPT(config)
    rng = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.3, generator=rng)
    ids, targets = torch.randint(0, 53, (2, 3, 16), generator=rng)
    with torch.no_grad():
        whole = model(ids)
    assert whole.isfinite().all()
    if takes_training(config):
        model.loss(ids, targets).backward()  # type: ignore[no-untyped-call]
        expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        TrainingPass(model, kernels).accumulate_gradients(ids, targets)
        for name, gradient in expected.items():
            ours = model.get_parameter(name).grad
            torch.testing.assert_close(ours, gradient, atol=1e-5, rtol=1e-4, msg=name)
    if takes_decoding(config):
        folder = tmp_path_factory.getbasetemp() / "decoder"
        compiled = CPUDecoder(model, "float32", compile_library("decode", WEIGHTS["float32"], folder))
        cache = model.new_cache(3)
        for t in range(16):
            ours, _ = compiled.decode(ids[:, t].tolist(), cache)
            torch.testing.assert_close(ours, whole[:, t], atol=2e-5, rtol=2e-5)

"""What attention begins with, seen through the weights with which it looks at a text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.processes import Processes
from mygpt_cli.model.gpt import GPT, ScaledDotProductAttention, attention_weights
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens.dataset import Dataset, prepare
from mygpt_cli.training.fresh_weights import FreshWeights
from mygpt_cli.training.induction import add_induction
from tests.conftest import tiny_config

ARCHITECTURES = ("qwen3", "llama", "nanochat")


def drawn(dataset: Dataset, arch: str = "qwen3", **parts: Any) -> GPT:
    shape = {"layers": 2, "heads": 2, "width": 64, "context": 64} | parts
    model = GPT(tiny_config(arch=arch, **shape).model(dataset.tokenizer.vocab_size))
    FreshWeights(dataset, Processes()).draw(model, 1)
    return model


def looks(model: GPT, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return how the first head of each layer weighs the tokens (T, T)."""
    seen: list[torch.Tensor] = []
    parts = [part for part in model.modules() if isinstance(part, ScaledDotProductAttention)]
    hooks = [
        part.register_forward_pre_hook(lambda _, given: seen.append(attention_weights(*given[:2])[0, 0]))
        for part in parts
    ]
    with torch.no_grad():
        model(ids[None])
    for hook in hooks:
        hook.remove()
    return seen


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A text of fifty words, in any order."""
    path = tmp_path / "text.txt"
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnoprstuw"), rng.integers(2, 7))) for _ in range(50)]
    path.write_text(" ".join(words[word] for word in rng.zipf(1.3, 8000) % 50), encoding="utf-8")
    return prepare(open_corpus([str(path)]), tokenizer="bpe", vocab_size=300, cache=tmp_path)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_head_of_the_first_layer_looks_at_the_token_before(dataset: Dataset, arch: str) -> None:
    first, _ = looks(drawn(dataset, arch), torch.from_numpy(dataset.val[:64].astype(np.int64)))
    assert first.diagonal(-1)[1:].mean() > 0.4
    assert (first.argmax(dim=-1)[2:] == torch.arange(1, 63)).float().mean() > 0.9


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_head_of_the_second_finds_what_followed_the_same_token(dataset: Dataset, arch: str) -> None:
    kinds = torch.from_numpy(np.unique(dataset.train).astype(np.int64))
    rng = torch.Generator().manual_seed(0)
    model, rows = drawn(dataset, arch), torch.arange(20, 40)
    found = []
    for _ in range(10):
        order = torch.randperm(len(kinds), generator=rng)[:20]
        _, second = looks(model, kinds[order].repeat(2))
        found.append(second[rows, rows - 19] * (rows + 1))  # 1 where it looks at all alike
    assert torch.stack(found).mean() > 4.0
    assert torch.stack(found).median() > 2.0


@pytest.mark.parametrize("parts", [{"layers": 1}, {"heads": 1}])
def test_small_models_keep_their_heads_for_other_things(dataset: Dataset, parts: dict[str, Any]) -> None:
    weights = dict(drawn(dataset, **parts).named_parameters())
    assert not any(weight.any() for name, weight in weights.items() if name.endswith("attention.out.weight"))


@given(
    frequencies=st.lists(st.just(0.0) | st.floats(1e-6, 1.0), min_size=1, max_size=80),
    heads=st.sampled_from([2, 4, 8, 16]),
    context=st.integers(2, 64),
    arch=st.sampled_from(ARCHITECTURES),
)
def test_any_tokens_and_shape_give_numbers(
    frequencies: list[float], heads: int, context: int, arch: str
) -> None:
    """However few the tokens are, and however narrow the heads."""
    config = tiny_config(arch=arch, heads=heads, width=32, context=context)
    model = GPT(config.model(len(frequencies)))
    model.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.embedding[:, 0].abs_()
    add_induction(model, torch.tensor(frequencies))
    assert all(parameter.isfinite().all() for parameter in model.parameters())

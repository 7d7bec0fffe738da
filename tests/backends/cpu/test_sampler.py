"""Tokens picked by compiled code against the exact rule."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mygpt_cli.backends.cpu.sampler import CompiledSampler
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.chain import chain, run
from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.generation.sampler import Choice, choose
from tests.helpers.standins import byte_tokenizer

TOKENIZER = byte_tokenizer()


@pytest.fixture(scope="module")
def picker(tmp_path_factory: pytest.TempPathFactory) -> CompiledSampler:
    return CompiledSampler(tmp_path_factory.mktemp("picker"))


def exactly(logits: Tensor, draws: Tensor, filters: dict[str, Any]) -> Choice:
    sampling = Sampling(seed=1, **{"temperature": 1.0, **filters})
    left = run(chain(sampling, TOKENIZER), logits.double(), torch.empty(len(logits), 0).long(), 0).logits
    return choose(logits_to_probs(left), draws)


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([1e-6, 1e-3, 0.8, 1 / math.log(2), 1e6]) | st.floats(1e-6, 1e6),
        "top_k": st.integers(1, 50),
        "top_p": st.sampled_from([1e-9, 0.25, 0.5, 0.9, 1 - 2**-53]) | st.floats(1e-300, 1),
        "min_p": st.sampled_from([1e-300, 0.25, 0.5, 1 - 2**-53]) | st.floats(0, 1, exclude_max=True),
    },
)


@settings(max_examples=300)
@given(
    values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40)
    | st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40)
    | st.lists(st.sampled_from([-math.inf, -2.0, -1.0, 0.0, 0.5]), min_size=1, max_size=40).filter(
        lambda values: max(values) > -math.inf
    ),
    filters=FILTERS,
    at=st.integers(0, 39),
    off=st.sampled_from([0.0, 1e-16, 1e-13, 1e-10, 9e-10, 1.1e-9, 1e-8]),
    sign=st.sampled_from([-1, 1]),
    anywhere=st.floats(0, 1, exclude_max=True),
)
def test_a_token_is_that_of_the_exact_rule_or_none(
    values: list[float],
    filters: dict[str, Any],
    at: int,
    off: float,
    sign: int,
    anywhere: float,
    picker: CompiledSampler,
) -> None:
    """Draws at an edge, next to it, and anywhere; a logit next to where min-p cuts."""
    cut = max(values) + filters.get("temperature", 1.0) * math.log(filters.get("min_p") or 1)
    logits = torch.tensor([[*values, cut]] * 2)
    edge = exactly(logits, torch.zeros(2).double(), filters).ends[0, at % len(values)]
    near = min(max(float(edge) + sign * off, 0.0), 1 - 2**-53)
    draws = torch.tensor([near, anywhere], dtype=torch.float64)
    expected = exactly(logits, draws, filters).ids.tolist()
    for picked, exact in zip(picker(logits, draws.tolist(), **filters), expected, strict=True):
        assert picked in (exact, -1)


@pytest.mark.parametrize("spread", [0.5, 3.0])
@pytest.mark.parametrize("size", [1, 65, 9000, 50257])
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"temperature": 0.8},
        {"temperature": 1.3, "top_k": 40},
        {"temperature": 0.8, "top_p": 0.95},
        {"temperature": 0.8, "min_p": 0.05},
        {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "min_p": 0.02},
    ],
    ids=str,
)
def test_it_is_sure_where_nothing_is_close(
    spread: float, size: int, filters: dict[str, Any], picker: CompiledSampler
) -> None:
    rng = torch.Generator().manual_seed(size)
    logits = spread * torch.randn(8, size, generator=rng)
    draws = torch.rand(8, generator=rng, dtype=torch.float64)
    assert picker(logits, draws.tolist(), **filters) == exactly(logits, draws, filters).ids.tolist()

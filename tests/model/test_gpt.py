"""The model: its size, its causality, its cache, and transformers' own models as the oracle."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.checkpoints import hf
from mygpt_cli.model.architectures import TRAINABLE, configure
from mygpt_cli.model.gpt import GPT, ScaledDotProductAttention, rotate
from tests.helpers.models import SHAPE, VARIANTS, random_model
from tests.helpers.rules import VARIANTS_OF_TRANSFORMERS


def test_gpt2_small_has_its_parameters() -> None:
    config = configure("gpt2", vocab_size=50257, layers=12, heads=12, width=768, context=1024)
    with torch.device("meta"):
        assert sum(p.numel() for p in GPT(config).parameters()) == 124_439_808


def test_a_model_small_enough_to_count_by_hand() -> None:
    biases = {"attention_bias": False, "output_bias": False}
    config = configure("gpt2", vocab_size=4, layers=2, heads=2, width=8, context=64, **biases)
    by_hand = 4 * 8 + 64 * 8 + 2 * (2 * 16 + 4 * 8 * 8 + (8 * 32 + 32) + (32 * 8 + 8)) + 16
    assert sum(p.numel() for p in GPT(config).parameters()) == by_hand == 2_240


@pytest.mark.parametrize("variant", VARIANTS_OF_TRANSFORMERS)
def test_logits_are_those_of_transformers(variant: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    model = random_model(**VARIANTS[variant])
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**hf.to_config(model.config, None))).eval()
    missing, unexpected = theirs.load_state_dict(hf.to_tensors(model), strict=False)
    assert not unexpected
    assert set(missing) <= ({"lm_head.weight"} if model.config.tied else set())
    ids = torch.randint(0, 53, (3, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(model(ids), expected, atol=1e-5, rtol=0)
    # While gradients are recorded, attention takes another path.
    torch.testing.assert_close(model(ids).detach(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["gpt2", "nanochat, shared keys", "qwen3"])
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 23), max_size=5, unique=True))
def test_the_cache_changes_nothing(variant: str, cuts: list[int]) -> None:
    model = random_model(**VARIANTS[variant])
    ids = torch.randint(0, 53, (2, 24), generator=torch.Generator().manual_seed(2))
    edges = [0, *sorted(cuts), 24]
    with torch.no_grad():
        cache = model.new_cache(2)
        parts = [model(ids[:, a:b], cache=cache) for a, b in itertools.pairwise(edges)]
        torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), atol=1e-5, rtol=0)
    assert cache.length == cache.capacity == 24


def test_the_selected_rows_of_a_cache_go_on_as_they_would_alone() -> None:
    model = random_model(arch="nanochat")
    ids = torch.randint(0, 53, (2, 9), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        cache = model.new_cache(3)
        cache.select([0, 1])
        model(ids, cache=cache)
        cache.select([1, 0, 1])
        several = model(torch.tensor([[4], [5], [6]]), cache=cache)
        for row, (origin, token) in enumerate(((1, 4), (0, 5), (1, 6))):
            alone = model(torch.cat((ids[origin], torch.tensor([token])))[None])[:, -1:]
            torch.testing.assert_close(several[row : row + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["gpt2", "nanochat"])
def test_no_position_sees_a_later_one(variant: str) -> None:
    model = random_model(**VARIANTS[variant])
    ids = torch.randint(0, 53, (1, 24), generator=torch.Generator().manual_seed(4))
    changed = ids.clone()
    changed[0, 12] = (changed[0, 12] + 1) % 53
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.equal(before[:, 12:], after[:, 12:])


def test_attention_by_hand() -> None:
    # Two positions, one head of width 1: the second weighs both by exp(q k).
    q = torch.tensor([[[[1.0], [1.0]]]], requires_grad=True)
    k, v = torch.tensor([[[[0.0], [2.0]]]]), torch.tensor([[[[1.0], [3.0]]]])
    e = torch.tensor(2.0).exp()
    expected = torch.tensor([1.0, float((1 + 3 * e) / (1 + e))])
    torch.testing.assert_close(ScaledDotProductAttention()(q, k, v).flatten().detach(), expected)
    torch.testing.assert_close(ScaledDotProductAttention()(q.detach(), k, v).flatten(), expected)


@given(st.integers(0, 40), st.integers(0, 40))
def test_rotation_keeps_distances_only(a: int, b: int) -> None:
    """The match of a query and a key depends on how far apart they are, not on where."""
    rng = torch.Generator().manual_seed(5)
    q, k = torch.randn(2, 8, generator=rng, dtype=torch.float64)

    def match(m: int, n: int) -> torch.Tensor:
        angles = torch.tensor([[m], [n]], dtype=torch.float64) * torch.tensor([1.0, 0.1, 0.01, 0.001])
        turned = rotate(torch.stack((q, k)), angles.cos(), angles.sin())
        return turned[0] @ turned[1]

    torch.testing.assert_close(match(a, b), match(a + 7, b + 7))


@pytest.mark.parametrize("arch", TRAINABLE)
def test_a_fresh_model_knows_nothing(arch: str) -> None:
    model = GPT(configure(**(SHAPE | {"arch": arch})))
    model.initialise(torch.Generator().manual_seed(1))
    ids = torch.randint(0, 53, (2, 24), generator=torch.Generator().manual_seed(2))
    targets = torch.randint(0, 53, (48,), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), targets).item()
    assert loss == pytest.approx(math.log(53), abs=0.05)
    again = GPT(model.config)
    again.initialise(torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))

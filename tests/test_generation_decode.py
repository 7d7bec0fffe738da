"""The real loop against the slow obvious one, and the draw against its definition."""

import math
from collections.abc import Sequence
from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.config import ModelConfig
from mygpt_cli.errors import MygptError
from mygpt_cli.generation.decode import Step, choose, decode, decode_one_token, draw, prefill
from mygpt_cli.generation.logits import chain
from mygpt_cli.generation.settings import Sampling
from mygpt_cli.model.gpt import GPT

VOCABULARY = 40


def random_model(arch: str, context: int = 12) -> GPT:
    model = GPT(ModelConfig(arch=arch, vocab_size=VOCABULARY, layers=2, heads=2, width=16, context=context))
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3, generator=rng)
    return model.requires_grad_(False)


def slow_loop(model: GPT, prompt: Sequence[int], sampling: Sampling, number: int) -> list[int]:
    """Read the whole window again for each token, softmax and inverse distribution written out."""
    ids = list(prompt)
    for index in range(sampling.max_new_tokens):
        logits = model(torch.tensor([ids[-model.config.context :]]))[0, -1].double()
        for _, function in chain(sampling):
            logits = function(logits)
        weights = [math.exp(value - float(logits.max())) for value in logits.tolist()]
        target = draw(sampling.seed, number, index) * sum(weights)
        ids.append(next(token for token, reached in enumerate(accumulate(weights)) if target < reached))
    return ids[len(prompt) :]


def tokens(steps: list[Step], row: int = 0) -> list[int]:
    return [int(step.choice.ids[row]) for step in steps]


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
@pytest.mark.parametrize(
    "settings", [{"temperature": 0}, {"temperature": 1.3}, {"top_k": 5, "top_p": 0.8, "min_p": 0.05}]
)
@pytest.mark.parametrize("length", [1, 5, 11, 12, 13, 30])
def test_the_loop_agrees_with_the_slow_one_within_and_past_the_window(
    arch: str, settings: dict[str, float], length: int
) -> None:
    model = random_model(arch)
    prompt = [(7 * i + 3) % VOCABULARY for i in range(length)]
    sampling = Sampling(seed=9, max_new_tokens=30, **settings)  # type: ignore[arg-type]
    assert tokens(list(decode(model, prompt, sampling))) == slow_loop(model, prompt, sampling, 1)


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_a_sample_is_the_same_alone_and_among_others(arch: str) -> None:
    model = random_model(arch)
    together = list(decode(model, [1, 2], Sampling(seed=3, num_samples=6, max_new_tokens=25)))
    fewer = list(decode(model, [1, 2], Sampling(seed=3, num_samples=2, max_new_tokens=25)))
    for row in range(6):
        alone = slow_loop(model, [1, 2], Sampling(seed=3, max_new_tokens=25), row + 1)
        assert tokens(together, row) == alone
    assert [tokens(fewer, row) for row in (0, 1)] == [tokens(together, row) for row in (0, 1)]
    assert tokens(together, 0) != tokens(together, 1)


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_prefill_and_decode_one_token_give_the_logits_of_the_whole(arch: str) -> None:
    model = random_model(arch)
    ids = torch.randint(VOCABULARY, (3, 10), generator=torch.Generator().manual_seed(1))
    whole = model(ids)
    cache = model.new_cache(3)
    torch.testing.assert_close(prefill(model, ids[:, :4], cache), whole[:, 3], rtol=0, atol=1e-5)
    for place in range(4, 10):
        logits = decode_one_token(model, ids[:, place], cache)
        torch.testing.assert_close(logits, whole[:, place], rtol=0, atol=1e-5)


def test_a_step_records_the_chain_and_the_draw() -> None:
    model = random_model("gpt2")
    sampling = Sampling(seed=4, temperature=0.7, top_k=3, max_new_tokens=3)
    for step in decode(model, [1], sampling):
        names = [name for name, _ in step.stages]
        assert names == ["logits", "temperature", "top-k"]
        assert all(logits.dtype == torch.float64 for _, logits in step.stages)
        choice = step.choice
        token = int(choice.ids[0])
        low = float(choice.ends[0, token - 1]) if token else 0.0
        assert float(choice.draws[0]) == draw(4, 1, step.index)
        assert low <= float(choice.draws[0]) < float(choice.ends[0, token])
        expected = step.logits.log_softmax(-1)[0, token]
        assert float(step.logprobs()[0]) == pytest.approx(float(expected), abs=1e-12)


def test_padding_of_the_vocabulary_is_never_picked() -> None:
    model = random_model("gpt2")
    with torch.no_grad():
        model.embedding[30:] *= 50
    sampling = Sampling(seed=1, temperature=3, num_samples=8, max_new_tokens=20)
    steps = list(decode(model, [1], sampling, known=30))
    assert max(int(step.choice.ids.max()) for step in steps) < 30
    assert steps[0].logits.shape == (8, 30)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error(value: float) -> None:
    model = random_model("gpt2")
    with torch.no_grad():
        model.embedding[3, 0] = value
    with pytest.raises(MygptError, match="new token 1 are not finite") as caught:
        list(decode(model, [1], Sampling(seed=1)))
    assert caught.value.exit_code == 1


def test_a_draw_can_be_redone_by_hand() -> None:
    probs = torch.tensor([[0.2, 0.0, 0.5, 0.3, 0.0]], dtype=torch.float64).repeat(7, 1)
    draws = [0.0, 0.19, 0.2, 0.69, 0.7, 0.99, 1 - 2**-53]
    choice = choose(probs, torch.tensor(draws, dtype=torch.float64))
    assert choice.ids.tolist() == [0, 0, 2, 2, 3, 3, 3]


@settings(deadline=None)
@given(
    weights=st.lists(st.one_of(st.just(0.0), st.floats(1e-300, 1)), min_size=1, max_size=40).filter(any),
    u=st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 1 - 2**-53])),
)
def test_what_has_no_probability_is_never_chosen(weights: list[float], u: float) -> None:
    probs = torch.tensor([weights], dtype=torch.float64)
    probs = probs / probs.sum()
    choice = choose(probs, torch.tensor([u], dtype=torch.float64))
    token = int(choice.ids[0])
    assert probs[0, token] > 0
    assert (float(choice.ends[0, token - 1]) if token else 0.0) <= u < float(choice.ends[0, token])


def test_draws_follow_their_distribution() -> None:
    draws = torch.tensor([draw(11, number, 0) for number in range(20_000)], dtype=torch.float64)
    probs = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    counts = choose(probs.expand(20_000, -1), draws).ids.bincount(minlength=4)
    expected = probs * 20_000
    assert (
        float(((counts - expected) ** 2 / expected).sum()) < 16.3
    )  # chi-square, 3 degrees, one in a thousand


def test_draws_are_in_range_and_depend_on_seed_number_and_index() -> None:
    drawn = {draw(seed, number, index) for seed in range(5) for number in range(1, 6) for index in range(5)}
    assert len(drawn) == 125
    assert all(0 <= u < 1 for u in drawn)

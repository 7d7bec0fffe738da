"""The real loop against the slow obvious one, and the draw against its definition."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.choice import decoder_for
from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import FILTERS, Sampling
from mygpt_cli.generation.chain import chain, run
from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.generation.loop import begin, grow
from mygpt_cli.generation.sampler import Sampler, Step, choose, draw
from mygpt_cli.model.gpt import GPT
from tests.helpers import standins
from tests.helpers.standins import byte_tokenizer

VOCABULARY = 40
TOKENIZER = byte_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def random_model(arch: str, context: int = 12) -> GPT:
    return standins.random_model(VOCABULARY, arch=arch, context=context)


def slow_loop(model: GPT, prompt: Sequence[int], sampling: Sampling, number: int = 1) -> list[int]:
    """Read the whole window again for each token; the rule, softmax and inverse distribution written out."""
    ids, context = list(prompt), model.config.context
    begin = max(0, len(ids) - context)
    filters = chain(sampling, TOKENIZER)
    for index in range(sampling.max_new_tokens):
        if len(ids) - begin > context:
            begin = len(ids) - (context if sampling.window == "exact" else context // 2)
        logits = model(torch.tensor([ids[begin:]]))[:, -1].double()
        for _, function in filters:
            logits = function(logits, torch.tensor([ids]), len(prompt))
        weights = [math.exp(value - float(logits.max())) for value in logits[0].tolist()]
        target = draw(sampling.seed, number, index) * sum(weights)
        ids.append(next(token for token, reached in enumerate(accumulate(weights)) if target < reached))
    return ids[len(prompt) :]


def decode(by: GPT | Decoder, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[Step]:
    decoder = ReferenceDecoder(by) if isinstance(by, GPT) else by
    state = begin(decoder, prompts, sampling)
    return grow(state, Sampler(sampling, chain(sampling, TOKENIZER), state.length, decoder.sampler))


def tokens(steps: list[Step], row: int = 0) -> list[int]:
    return [int(step.choice.ids[row]) for step in steps]


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
@pytest.mark.parametrize("window", ["half", "exact"])
@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0},
        {"temperature": 1.3, "typical_p": 0.9},
        {"top_k": 5, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.3, "no_repeat_ngram": 2},
    ],
)
@pytest.mark.parametrize("length", [1, 5, 11, 12, 13, 30])
def test_the_loop_agrees_with_the_slow_one_within_and_past_the_window(
    arch: str, window: str, settings: dict[str, Any], length: int
) -> None:
    model = random_model(arch)
    prompt = [(7 * i + 3) % VOCABULARY for i in range(length)]
    sampling = Sampling(seed=9, max_new_tokens=40, window=window, **settings)
    assert tokens(list(decode(model, [prompt], sampling))) == slow_loop(model, prompt, sampling)


@pytest.mark.parametrize("context", [1, 2, 3, 7])
def test_the_smallest_windows(context: int) -> None:
    model = random_model("gpt2", context)
    for window in ("half", "exact"):
        sampling = Sampling(seed=2, max_new_tokens=20, window=window)
        ids = tokens(list(decode(model, [[1, 2, 3]], sampling)))
        if context > 1:
            assert ids == slow_loop(model, [1, 2, 3], sampling)


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
@pytest.mark.parametrize("window", ["half", "exact"])
def test_the_same_greedy_text_over_a_thousand_tokens(arch: str, window: str) -> None:
    model = random_model(arch, context=64)
    sampling = Sampling(
        seed=0,
        temperature=0,
        no_repeat_ngram=3,
        max_new_tokens=1000 if window == "half" else 200,
        window=window,
    )
    ids = tokens(list(decode(model, [[1, 2, 3]], sampling)))
    assert ids == slow_loop(model, [1, 2, 3], sampling)
    assert len(set(ids)) > 10


@settings(max_examples=30)
@given(
    arch=st.sampled_from(["gpt2", "nanochat"]),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    count=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    leaving=st.lists(st.integers(0, 14), max_size=4),
)
def test_who_else_is_in_the_batch_does_not_matter(
    arch: str, lengths: list[int], count: int, seed: int, leaving: list[int]
) -> None:
    """Several prompts of any length, several samples of each, some of which leave on the way."""
    model = standins.random_model(TOKENIZER.vocab_size, arch=arch, context=12)
    model.compute_dtype = torch.float64  # so that rounding moves no edge over a draw
    prompts = [[(seed + 5 * n + 3 * i) % 257 for i in range(length)] for n, length in enumerate(lengths)]
    sampling = Sampling(
        seed=seed,
        num_samples=count,
        temperature=1,
        max_new_tokens=15,
        repetition_penalty=1.2,
        no_repeat_ngram=3,
        presence_penalty=0.2,
        logit_bias=("a=1",),
        ban=("ab",),
    )
    alive = [(place, number) for place in range(len(prompts)) for number in range(1, count + 1)]
    written: dict[tuple[int, int], list[int]] = {key: [] for key in alive}
    for step in decode(model, prompts, sampling):
        for key, token in zip(alive, step.choice.ids.tolist(), strict=True):
            written[key].append(token)
        gone = {n % len(alive) for n, index in enumerate(leaving) if index == step.index}
        if len(gone) < len(alive):
            step.kept = [row for row in range(len(alive)) if row not in gone]
            alive = [key for row, key in enumerate(alive) if row not in gone]
    for (place, number), ids in written.items():
        alone = slow_loop(model, prompts[place], sampling, number)
        assert ids == alone[: len(ids)]


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_a_sample_is_the_same_alone_and_among_others(arch: str) -> None:
    model = random_model(arch)
    together = list(decode(model, [[1, 2]], Sampling(seed=3, num_samples=6, max_new_tokens=25)))
    fewer = list(decode(model, [[1, 2]], Sampling(seed=3, num_samples=2, max_new_tokens=25)))
    for row in range(6):
        alone = slow_loop(model, [1, 2], Sampling(seed=3, max_new_tokens=25), row + 1)
        assert tokens(together, row) == alone
    assert [tokens(fewer, row) for row in (0, 1)] == [tokens(together, row) for row in (0, 1)]
    assert tokens(together, 0) != tokens(together, 1)


def test_a_step_records_the_chain_and_the_draw() -> None:
    model = random_model("gpt2")
    sampling = Sampling(seed=4, temperature=0.7, top_k=3, max_new_tokens=3)
    for step in decode(model, [[1]], sampling):
        names = [name for name, _ in step.stages]
        assert names == ["temperature", "top-k"]
        assert all(logits.dtype == torch.float64 for _, logits in step.stages)
        assert torch.equal(logits_to_probs(step.stages[-1][1]), step.probs)
        choice = step.choice
        token = int(choice.ids[0])
        low = float(choice.ends[0, token - 1]) if token else 0.0
        assert float(choice.draws[0]) == draw(4, 1, step.index)
        assert low <= float(choice.draws[0]) < float(choice.ends[0, token])
        expected = step.logits.log_softmax(-1)[0, token]
        assert float(step.logprobs()[0]) == pytest.approx(float(expected), abs=1e-12)


@settings(max_examples=30)
@given(
    given=st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0, 0.7, 1]),
            "top_k": st.sampled_from([0, 4]),
            "top_p": st.sampled_from([1, 0.8]),
            "min_p": st.sampled_from([0, 0.1]),
            "filters": st.sampled_from(["", ",".join(reversed(FILTERS))]),
            "repetition_penalty": st.sampled_from([1, 0.2]),
            "logit_bias": st.sampled_from([(), ("3=5",), tuple(f"{n}=-inf" for n in range(VOCABULARY))]),
        }
    ),
    compiled=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_what_a_step_works_out_later_is_what_led_to_its_tokens(
    given: dict[str, Any], compiled: bool, seed: int, folder: Path
) -> None:
    """Looked at in the end, when the texts have grown and rows have left."""
    model = random_model("gpt2")
    decoder = decoder_for(model, "none", folder) if compiled else ReferenceDecoder(model)
    sampling = Sampling(seed=seed, num_samples=3, max_new_tokens=4, **given)
    steps, texts, text = [], [], torch.tensor([[1, 2]] * 3)
    for step in decode(decoder, [[1, 2]], sampling):
        steps.append(step)
        texts.append(text)
        text = torch.cat((text, torch.tensor(step.ids)[:, None]), dim=1)
        if step.index == 1:
            step.kept = [2, 0]
            text = text[[2, 0]]
    for step, before in zip(steps, texts, strict=True):
        filtered = run(chain(sampling, TOKENIZER), step.logits, before, 2)
        assert step.exhausted == filtered.exhausted.tolist()
        assert torch.equal(step.probs, logits_to_probs(filtered.logits))
        assert step.ids == step.choice.ids.tolist() == choose(step.probs, step.choice.draws).ids.tolist()


def test_a_draw_can_be_redone_by_hand() -> None:
    probs = torch.tensor([[0.2, 0.0, 0.5, 0.3, 0.0]], dtype=torch.float64).repeat(7, 1)
    draws = [0.0, 0.19, 0.2, 0.69, 0.7, 0.99, 1 - 2**-53]
    choice = choose(probs, torch.tensor(draws, dtype=torch.float64))
    assert choice.ids.tolist() == [0, 0, 2, 2, 3, 3, 3]


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


@pytest.mark.parametrize(("arch", "compiled"), [("gpt2", True), ("nanochat", True), ("nanochat", False)])
def test_a_thousand_greedy_tokens_are_those_of_one_uncached_pass(
    arch: str, compiled: bool, tmp_path: Path
) -> None:
    """In one context; the same logits, and each token the best after all before it."""
    model = random_model(arch, context=1024)
    decoder = decoder_for(model, "none", tmp_path) if compiled else ReferenceDecoder(model)
    sampling = Sampling(seed=0, temperature=0, max_new_tokens=1000)
    steps = list(decode(decoder, [[1, 2, 3]], sampling))
    ids = tokens(steps)
    with torch.inference_mode():
        logits = model(torch.tensor([[1, 2, 3, *ids[:-1]]]))[0, 2:]
    torch.testing.assert_close(torch.cat([step.logits for step in steps]).float(), logits, rtol=0, atol=1e-5)
    assert ids == logits.argmax(dim=-1).tolist()


def test_a_token_costs_one_position_however_many_there_are() -> None:
    model = random_model("gpt2", context=600)
    read: list[int] = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].size(1)))
    list(decode(model, [[1, 2, 3]], Sampling(seed=1, max_new_tokens=500)))
    assert read == [3, *[1] * 499]

"""The chain against transformers' own list of processors, and filters that work on text."""

import copy
import math
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.base.errors import TextError, UsageError
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.chain import chain, run
from mygpt_cli.generation.logits import greedy, logits_to_probs
from mygpt_cli.generation.stream import Prompt, Sample, generate
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.helpers.standins import TEXT, byte_tokenizer, random_model

TOKENIZER = train_tokenizer("bpe", [TEXT], vocab_size=280, end_of_text=True)
END = TOKENIZER.end_of_text
ENDS = (279, 7, 100)
OTHER = transformers.GPT2LMHeadModel(
    transformers.GPT2Config(vocab_size=280, n_embd=8, n_layer=1, n_head=1, n_positions=8)
)


def their_chain(given: dict[str, Any], length: int) -> Any:
    """Return the processors that transformers makes of the same settings, in its order."""
    names = {"no_repeat_ngram": "no_repeat_ngram_size"}
    config = transformers.GenerationConfig(
        do_sample=True,
        eos_token_id=list(ENDS),
        **{names.get(name, name): value for name, value in given.items() if name != "logit_bias"},
        sequence_bias=[[[5], 2.0], [[6, 7], -3.0]] if "logit_bias" in given else None,
    )
    config._eos_token_tensor = torch.tensor(ENDS)
    return OTHER._get_logits_processor(config, input_ids_seq_length=length)


def sometimes(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**31),
    start=st.integers(1, 10),
    new=st.integers(0, 10),
    given=st.fixed_dictionaries(
        {
            "temperature": st.floats(0.05, 20),
            "top_k": st.integers(1, 300),
            "top_p": st.floats(0.01, 0.999),
            "min_p": st.floats(0.001, 0.99),
            "typical_p": st.floats(0.01, 0.999),
            "repetition_penalty": st.floats(0.1, 10),
            "no_repeat_ngram": st.integers(1, 3),
            "min_new_tokens": st.integers(1, 12),
            "logit_bias": st.just(("5=2", "67=-3")),
        }
    ),
    chosen=st.sets(st.integers(0, 8)),
)
def test_the_chain_agrees_with_transformers(
    seed: int, start: int, new: int, given: dict[str, Any], chosen: set[int]
) -> None:
    """Any selection of filters, in the default order: the same tokens kept, the same probabilities."""
    given = {name: value for n, (name, value) in enumerate(given.items()) if n in chosen}
    tokenizer = copy.copy(TOKENIZER)
    tokenizer.ends = ENDS
    rng = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn((3, 280), generator=rng, dtype=torch.float64)
    ids = torch.randint(9, (3, start + new), generator=rng)
    expected = their_chain(given, start)(ids, logits.clone())
    if "logit_bias" in given:
        given["logit_bias"] = ("5=2", TOKENIZER.decode([6, 7]) + "=-3")
        assert TOKENIZER.encode(TOKENIZER.decode([6, 7])) == [6, 7]
    sampling = Sampling(**({"temperature": 1.0, "seed": 0} | given))
    ours = run(chain(sampling, tokenizer), logits, ids, start).logits
    assert torch.equal(ours.isneginf(), expected.isneginf())
    torch.testing.assert_close(logits_to_probs(ours), expected.softmax(-1), rtol=1e-9, atol=1e-15)


def one(logits: list[float], ids: list[int], start: int, tokenizer: Tokenizer, **given: Any) -> Tensor:
    sampling = Sampling(**({"temperature": 1.0, "seed": 0} | given))
    return run(chain(sampling, tokenizer), torch.tensor([logits]), torch.tensor([ids]), start).logits[0]


def test_penalties_count_what_they_say_they_count() -> None:
    """Repetition looks at the prompt too, frequency and presence only at what was written."""
    tokenizer = byte_tokenizer()
    logits = [1.0] * 257
    for name, value, changed in (
        ("repetition_penalty", 2.0, {7: 0.5, 8: 0.5, 9: 0.5}),
        ("frequency_penalty", 0.25, {8: 0.75, 9: 0.5}),
        ("presence_penalty", 0.25, {8: 0.75, 9: 0.75}),
    ):
        out = one(logits, [7, 7, 9, 8, 9], 2, tokenizer, **{name: value})
        assert {token: value for token, value in enumerate(out.tolist()) if value != 1} == changed


def test_the_end_waits_and_is_ignored() -> None:
    logits = [0.0] * 280
    assert END is not None
    assert one(logits, [1, 2, 3], 1, TOKENIZER, min_new_tokens=3)[END] == -math.inf
    assert one(logits, [1, 2, 3, 4], 1, TOKENIZER, min_new_tokens=3)[END] == 0
    assert one(logits, [1] * 50, 1, TOKENIZER, ignore_end=True)[END] == -math.inf


def write(tokenizer: Tokenizer, *, seed: int, context: int = 24, **given: Any) -> list[Sample]:
    model = random_model(tokenizer.vocab_size, context=context)
    settings = {"seed": seed, "max_new_tokens": 40, "temperature": 1.0, "num_samples": 3} | given
    prompt = Prompt("cat", tuple(tokenizer.encode("cat")))
    events = generate(ReferenceDecoder(model), tokenizer, [prompt], Sampling(**settings))
    return [event for event in events if isinstance(event, Sample)]


def written(sample: Sample) -> bytes:
    return sample.text.encode("utf-8", "surrogateescape")


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    banned=st.lists(st.text("tahec .😀", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_a_banned_text_is_never_written(seed: int, banned: list[str]) -> None:
    """However its bytes are spread over tokens, also where it would begin in the prompt."""
    bias = tuple(f"{text}=6" for text in banned)  # tempt it
    for sample in write(TOKENIZER, seed=seed, ban=tuple(banned), logit_bias=bias):
        for text in map(str.encode, banned):
            before = b"cat"[-(len(text) - 1) :] if len(text) > 1 else b""
            assert text not in before + written(sample), text
        assert sample.exhausted == 0


def test_without_the_ban_it_would_be_written() -> None:
    assert any("e" in sample.text for sample in write(TOKENIZER, seed=1, logit_bias=("e=9",)))


def test_a_bias_above_0_leads_to_a_text_of_several_tokens() -> None:
    assert len(TOKENIZER.encode("zigzig")) == 6
    for sample in write(TOKENIZER, seed=1, logit_bias=("zigzag=1000",)):
        assert sample.text == "zigzag" * 6 + "zigz"


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), text=st.text("tahec .😀\n", min_size=1, max_size=12))
def test_the_first_text_is_written_first(seed: int, text: str) -> None:
    for sample in write(TOKENIZER, seed=seed, begin_with=text, max_new_tokens=60):
        assert sample.reason == "end_of_text" or len(sample.ids) == 60
        assert sample.text.startswith(text)
        assert sample.exhausted == 0


def test_filters_that_leave_nothing_fall_back_to_the_best_token_and_are_counted() -> None:
    every = tuple(f"{token}=-inf" for token in range(257))
    tokenizer = byte_tokenizer()
    logits = torch.randn((2, 257), generator=torch.Generator().manual_seed(3))
    ids = torch.tensor([[1], [2]])
    filtered = run(chain(Sampling(seed=0, logit_bias=every), tokenizer), logits, ids, 1)
    assert filtered.exhausted.tolist() == [True, True]
    assert torch.equal(filtered.logits.isfinite(), greedy(logits).isfinite())
    model = random_model(257)
    sampling = Sampling(seed=0, logit_bias=every, max_new_tokens=5, temperature=0)
    (sample,) = [
        e
        for e in generate(ReferenceDecoder(model), tokenizer, [Prompt("", (256,))], sampling)
        if isinstance(e, Sample)
    ]
    assert sample.exhausted == len(sample.ids) == 5
    plain = Sampling(seed=0, max_new_tokens=5, temperature=0)
    (other,) = [
        e
        for e in generate(ReferenceDecoder(model), tokenizer, [Prompt("", (256,))], plain)
        if isinstance(e, Sample)
    ]
    assert sample.ids == other.ids


def test_what_the_tokenizer_does_not_have_is_told() -> None:
    with pytest.raises(UsageError, match="there is no token 280"):
        chain(Sampling(seed=0, logit_bias=("280=1",)), TOKENIZER)
    letters = train_tokenizer("char", ["abc"])
    for sampling in (Sampling(seed=0, logit_bias=("z=1",)), Sampling(seed=0, begin_with="az")):
        with pytest.raises(TextError, match="'z'"):
            chain(sampling, letters)
    assert chain(Sampling(seed=0, ban=("z",)), letters)  # never written anyway

"""Beam search against transformers' own, on random small models, and its properties."""

import itertools
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.base.errors import MygptError
from mygpt_cli.checkpoints import hf
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.beam import beam_search
from mygpt_cli.generation.chain import chain
from mygpt_cli.generation.stream import Prompt, Sample, generate
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.helpers.standins import byte_tokenizer, random_model

VOCABULARY = 40


def both_models(seed: int, spread: float) -> tuple[Any, GPT]:
    """Return transformers' model with random weights and ours with the same."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=32, initializer_range=spread
    )
    torch.manual_seed(seed)
    other = transformers.GPT2LMHeadModel(config).eval()
    ours = GPT(configure("gpt2", vocab_size=VOCABULARY, layers=2, heads=2, width=16, context=32))
    tensors = {name: tensor for name, tensor in other.state_dict().items() if name != "lm_head.weight"}
    names = hf.canonical_names(list(tensors), ours.config)
    hf.fill(ours, {new: tensors[old] for new, old in names.items()})
    return other, ours.requires_grad_(False)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    spread=st.floats(0.1, 0.6),
    beams=st.integers(2, 6),
    length=st.integers(1, 14),
    penalty=st.one_of(st.just(1.0), st.floats(-2, 3)),
    ranks=st.lists(st.integers(0, 7), max_size=4, unique=True),
    filters=st.fixed_dictionaries(
        {}, optional={"repetition_penalty": st.floats(0.7, 1.5), "no_repeat_ngram": st.integers(1, 3)}
    ),
    data=st.data(),
)
def test_beam_search_is_that_of_transformers(
    seed: int,
    spread: float,
    beams: int,
    length: int,
    penalty: float,
    ranks: list[int],
    filters: dict[str, Any],
    data: st.DataObject,
) -> None:
    """The same beams with the same scores, in the same order; likely tokens end the text."""
    other, ours = both_models(seed, spread)
    prompt = tuple(data.draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=8)))
    count = data.draw(st.integers(1, beams))
    order = ours(torch.tensor([prompt]))[0, -1].argsort(descending=True)
    ends = order[ranks].tolist()
    names = {"no_repeat_ngram": "no_repeat_ngram_size"}
    theirs = other.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        num_beams=beams,
        num_return_sequences=count,
        max_new_tokens=length,
        length_penalty=penalty,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else VOCABULARY - 1,
        return_dict_in_generate=True,
        output_scores=True,
        **{names.get(name, name): value for name, value in filters.items()},
    )
    sampling = Sampling(
        seed=0,
        beams=beams,
        num_samples=count,
        max_new_tokens=length,
        length_penalty=penalty,
        **filters,
    )
    filtered = chain(sampling, byte_tokenizer())
    found = beam_search(
        ReferenceDecoder(ours),
        prompt,
        sampling,
        filtered,
        ends=lambda ids: ids[-1] in ends,
        end_tokens=len(ends),
    )
    scores = [beam.score(penalty) for beam in found]
    assert scores == pytest.approx(theirs.sequences_scores.tolist(), rel=1e-4, abs=1e-4)
    for beam, row in zip(found, theirs.sequences[:, len(prompt) :].tolist(), strict=True):
        stop = next((n for n, token in enumerate(row, 1) if token in ends), len(row))
        assert list(beam.ids) == row[:stop]


@pytest.mark.parametrize("seed", [0, 1, 3, 5, 7])
def test_with_many_ends_enough_beams_go_on(seed: int) -> None:
    """Long texts are favoured, and nearly all of the best tokens end one: few candidates would not do."""
    other, ours = both_models(seed, 0.3)
    order = ours(torch.tensor([[1, 2, 3]]))[0, -1].argsort(descending=True)
    ends = order[[0, 2, 3, 4, 5]].tolist()
    rows = other.generate(
        torch.tensor([[1, 2, 3]]),
        attention_mask=torch.ones(1, 3, dtype=torch.long),
        do_sample=False,
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=8,
        length_penalty=3.0,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )[:, 3:].tolist()
    sampling = Sampling(seed=0, beams=3, num_samples=3, max_new_tokens=8, length_penalty=3.0)
    found = beam_search(
        ReferenceDecoder(ours), (1, 2, 3), sampling, [], ends=lambda ids: ids[-1] in ends, end_tokens=5
    )
    stops = [next((n for n, token in enumerate(row, 1) if token in ends), len(row)) for row in rows]
    assert [list(beam.ids) for beam in found] == [row[:n] for row, n in zip(rows, stops, strict=True)]


def test_one_beam_among_all_tokens_is_found_by_trying_all_texts() -> None:
    """With as many beams as there are texts, the best of all is found."""
    model = random_model(4)
    sampling = Sampling(seed=0, beams=64, num_samples=64, max_new_tokens=3)
    found = beam_search(ReferenceDecoder(model), (1,), sampling, [], ends=lambda ids: False)
    totals: dict[tuple[int, ...], float] = {}
    for text in itertools.product(range(4), repeat=3):
        logprobs = model(torch.tensor([[1, *text]]))[0].double().log_softmax(-1)
        totals[text] = sum(float(logprobs[place, token]) for place, token in enumerate(text))
    assert [beam.ids for beam in found] == sorted(totals, key=lambda text: -totals[text])
    for beam in found:
        assert beam.total == pytest.approx(totals[beam.ids], abs=1e-5)
        assert sum(beam.logprobs) == pytest.approx(beam.total)


def test_beams_go_past_the_window_and_stop_at_texts_and_ends() -> None:
    tokenizer = byte_tokenizer()
    model = random_model(257, context=8)
    prompt = Prompt("cat", tuple(tokenizer.encode("cat")))
    sampling = Sampling(seed=0, beams=4, num_samples=3, max_new_tokens=30, begin_with="a", stop=("é", "b"))
    samples = [
        e
        for e in generate(ReferenceDecoder(model), tokenizer, [prompt, prompt], sampling)
        if isinstance(e, Sample)
    ]
    assert [(sample.prompt, sample.number) for sample in samples] == [
        (p, n) for p in (1, 2) for n in (1, 2, 3)
    ]
    assert samples[0].text.startswith("a")
    assert [s.ids for s in samples[:3]] == [s.ids for s in samples[3:]]
    for sample in samples:
        assert sample.score == pytest.approx(sum(sample.logprobs) / len(sample.ids))
        assert sample.reason == "stop" or len(sample.ids) == 30
        assert "b" not in sample.text
    one = Sampling(seed=0, beams=4, num_samples=2, begin_with="ab", stop=("b",))
    with pytest.raises(MygptError, match="only 1 of 2 texts"):
        list(generate(ReferenceDecoder(model), tokenizer, [prompt], one))
    longer = Sampling(seed=0, beams=4, num_samples=3, max_new_tokens=30, length_penalty=2.0)
    for event in generate(ReferenceDecoder(model), tokenizer, [prompt], longer):
        if isinstance(event, Sample):
            assert (len(event.ids) == 30) == (event.reason == "length")
            assert event.score == pytest.approx(sum(event.logprobs) / len(event.ids) ** 2)


def test_a_tokenizer_without_an_end_searches_to_the_full_length() -> None:
    tokenizer = train_tokenizer("char", ["abcd"])
    model = random_model(4)
    sampling = Sampling(seed=0, beams=3, max_new_tokens=6)
    events = list(generate(ReferenceDecoder(model), tokenizer, [Prompt("a", (0,))], sampling))
    (sample,) = [event for event in events if isinstance(event, Sample)]
    assert len(sample.ids) == 6

"""Text as it comes: whole characters, stop strings, endings; with a model whose next token is known."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.choice import decoder_for
from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.base.errors import TextError
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation import stream
from mygpt_cli.generation.stream import (
    TOGETHER,
    Prompt,
    Sample,
    Stats,
    TextChunk,
    TextDecoder,
    generate,
    read_prompt,
)
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.conftest import needs_compiled
from tests.helpers.standins import byte_tokenizer, random_model


class Script(GPT):
    """A model that says the same tokens whatever it reads: the one at its position in `tokens`."""

    def __init__(self, tokens: list[int], vocab_size: int, start: int = 1) -> None:
        super().__init__(configure("gpt2", vocab_size=vocab_size, layers=1, heads=1, width=2, context=1000))
        self.tokens = tokens
        self.start = start
        self.requires_grad_(False)

    def hidden(self, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
        cache = arguments["cache"]
        cache.length += ids.size(1)
        return torch.full((*ids.shape, 1), cache.length - self.start)

    def unembed(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(hidden.size(0), self.config.vocab_size)
        logits[:, self.tokens[int(hidden[0, 0])]] = 50.0
        return logits


def token_of(tokenizer: Tokenizer, byte: int) -> int:
    return next(i for i in range(256) if tokenizer.token_bytes(i) == bytes([byte]))


def say(data: bytes, *, end: bool = False, **settings: Any) -> tuple[list[str], Sample]:
    """Generate with a model that says these bytes, then perhaps the end of text; return chunks and sample."""
    tokenizer = byte_tokenizer()
    assert tokenizer.end_of_text is not None
    ids = [token_of(tokenizer, byte) for byte in data] + ([tokenizer.end_of_text] if end else [])
    settings = {"temperature": 0, "seed": 0, "max_new_tokens": len(ids)} | settings
    model = Script(ids, tokenizer.vocab_size)
    events = list(
        generate(
            ReferenceDecoder(model), tokenizer, [read_prompt(tokenizer, "x", 1000)], Sampling(**settings)
        )
    )
    chunks = [event.text for event in events if isinstance(event, TextChunk)]
    (sample,) = [event for event in events if isinstance(event, Sample)]
    stats = events[-1]
    assert isinstance(stats, Stats)
    assert stats.tokens == len(sample.ids)
    assert 0 < stats.first <= stats.seconds
    assert sample.text == "".join(chunks)
    return chunks, sample


def test_text_comes_in_whole_characters() -> None:
    chunks, sample = say("aé€😀z".encode())
    assert chunks == ["a", "é", "€", "😀", "z"]
    assert sample.reason == "length"
    assert len(sample.ids) == len(sample.logprobs) == 11


def test_bytes_that_are_not_utf8_pass_unchanged() -> None:
    _, sample = say(b"a\xff\xc3(b")
    assert sample.text.encode("utf-8", "surrogateescape") == b"a\xff\xc3(b"


def test_a_character_cut_by_the_length_is_left_out() -> None:
    chunks, sample = say("a😀".encode()[:-1])
    assert chunks == ["a"]
    assert len(sample.ids) == 4


def test_end_of_text_ends_the_text_and_is_not_part_of_it() -> None:
    chunks, sample = say(b"ab", end=True, max_new_tokens=50)
    assert chunks == ["a", "b"]
    assert sample.reason == "end_of_text"
    assert len(sample.ids) == 3


def test_a_stop_string_spanning_tokens_is_not_printed() -> None:
    chunks, sample = say(b"one\n\ntwo", stop=("\n\n",))
    assert chunks == ["o", "n", "e"]
    assert sample.reason == "stop"


def test_what_only_looked_like_a_stop_string_is_printed_in_the_end() -> None:
    chunks, sample = say(b"aENDbEN", stop=("ENDING",))
    assert chunks == ["a", "ENDb", "EN"]
    assert sample.reason == "length"


def test_the_first_stop_string_to_be_complete_counts() -> None:
    assert say(b"xabcd", stop=("abcd", "bc"))[1].text == "xa"
    assert say(b"xabcd", stop=("c", "abc"))[1].text == "x"


def first_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """Return what remains of a text read one character at a time up to its first complete stop string."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@given(
    text=st.text("abé😀", max_size=40),
    stops=st.lists(st.text("abé", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 160), max_size=10),
)
def test_stopping_does_not_depend_on_how_the_text_is_cut_into_tokens(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    data = text.encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    decoder, out = TextDecoder(stops), ""
    for start, end in pairwise(places):
        piece = decoder.push(data[start:end])
        assert (out + piece).isprintable()
        out += piece
        if decoder.stopped:
            break
    if not decoder.stopped:
        out += decoder.finish()
    assert (out, decoder.stopped) == first_stop(text, stops)


def test_samples_end_on_their_own() -> None:
    """Samples of one batch stop at different places, and those that stopped say nothing more."""
    tokenizer = byte_tokenizer()
    model = GPT(configure("gpt2", vocab_size=257, layers=1, heads=1, width=8, context=16))
    model.initialise(torch.Generator().manual_seed(1))
    sampling = Sampling(seed=5, temperature=1, num_samples=5, max_new_tokens=120, stop=("a", "b"))
    texts: dict[int, str] = dict.fromkeys(range(1, 6), "")
    samples: dict[int, Sample] = {}
    for event in generate(
        ReferenceDecoder(model.requires_grad_(False)), tokenizer, [Prompt("", (256,))], sampling
    ):
        if isinstance(event, Stats):
            continue
        assert event.number not in samples
        if isinstance(event, TextChunk):
            texts[event.number] += event.text
        else:
            samples[event.number] = event
    assert {number: sample.text for number, sample in samples.items()} == texts
    assert len({len(sample.ids) for sample in samples.values()}) > 1


def test_an_empty_prompt_starts_from_the_first_of_end_of_text_newline_and_token_0() -> None:
    with_end = byte_tokenizer()
    assert read_prompt(with_end, "", 8) == Prompt("", (256,))
    newline = train_tokenizer("char", ["ab\nc"])
    assert read_prompt(newline, "", 8).ids == tuple(newline.encode("\n"))
    assert read_prompt(train_tokenizer("char", ["abc"]), "", 8).ids == (0,)


def test_a_prompt_longer_than_the_context_is_told() -> None:
    tokenizer = byte_tokenizer()
    assert read_prompt(tokenizer, "x" * 8, 8).note == ""
    assert "9 tokens" in read_prompt(tokenizer, "x" * 9, 8).note


def test_a_prompt_the_tokenizer_cannot_express_is_an_error() -> None:
    with pytest.raises(TextError, match="'z'"):
        read_prompt(train_tokenizer("char", ["abc"]), "abz", 8)


@needs_compiled
@pytest.mark.parametrize(("arch", "memory"), [("gpt2", stream.CACHE), ("nanochat", 200_000)])
def test_prompts_of_different_length_give_what_each_gives_alone(
    arch: str, memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, also where texts end early, and where there are too many for one batch."""
    monkeypatch.setattr(stream, "CACHE", memory)
    tokenizer, model = byte_tokenizer(), random_model(257, arch=arch)
    decoder = decoder_for(model, "int8", tmp_path)
    texts = ("cat", "a", "dog", "", "longer than it", "b" * 30)
    prompts = [read_prompt(tokenizer, text, 24) for text in texts]
    sampling = Sampling(seed=5, num_samples=16, max_new_tokens=40, temperature=1, stop=("e",))
    together = [e for e in generate(decoder, tokenizer, prompts, sampling) if isinstance(e, Sample)]
    assert len(together) == 16 * len(texts) > TOGETHER
    for place, prompt in enumerate(prompts, 1):
        alone = [e for e in generate(decoder, tokenizer, [prompt], sampling) if isinstance(e, Sample)]
        theirs = [replace(sample, prompt=1) for sample in together if sample.prompt == place]
        assert sorted(theirs, key=lambda s: s.number) == sorted(alone, key=lambda s: s.number)


@needs_compiled
def test_more_samples_than_there_is_room_for_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, decoder = byte_tokenizer(), decoder_for(random_model(257), "none", tmp_path)
    prompts = [read_prompt(tokenizer, text, 24) for text in ("cat", "a dog")]
    sampling = Sampling(seed=5, num_samples=10, max_new_tokens=12, temperature=1, stop=("e",))
    found = []
    for room in (TOGETHER, 4, 1):
        monkeypatch.setattr(stream, "TOGETHER", room)
        samples = [e for e in generate(decoder, tokenizer, prompts, sampling) if isinstance(e, Sample)]
        found.append(sorted(samples, key=lambda sample: (sample.prompt, sample.number)))
    assert [(s.prompt, s.number) for s in found[0]] == [(p, n) for p in (1, 2) for n in range(1, 11)]
    assert found[0] == found[1] == found[2]


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 7))
@example(seed=237, count=5)
def test_a_sample_is_the_same_among_fewer(seed: int, count: int) -> None:
    """Also where some end before others and leave the batch.

    The model computes in float64: torch's products in float32 round in another way for another number of
    rows, and a draw may lie between the two results.
    """
    tokenizer, model = byte_tokenizer(), random_model(257).double()
    model.compute_dtype = torch.float64
    prompt = Prompt("", (256,))

    def texts(number: int) -> list[tuple[int, ...]]:
        sampling = Sampling(
            seed=seed, num_samples=number, max_new_tokens=40, temperature=1, stop=("a", "b", " ")
        )
        events = generate(ReferenceDecoder(model), tokenizer, [prompt], sampling)
        return [e.ids for e in sorted((e for e in events if isinstance(e, Sample)), key=lambda e: e.number)]

    many = texts(count)
    assert texts(1) == many[:1]
    assert texts(count - 1) == many[:-1]


def test_the_likeliest_tokens_are_those_of_the_model() -> None:
    tokenizer, model = byte_tokenizer(), random_model(257)
    sampling = Sampling(seed=3, max_new_tokens=5, temperature=2, num_samples=2, stop=("e",))
    ids = [1, 2]
    for sample in generate(ReferenceDecoder(model), tokenizer, [Prompt("", tuple(ids))], sampling, top=3):
        if isinstance(sample, Sample):
            assert len(sample.top) == len(sample.ids)
            for index, (token, logprob, top) in enumerate(
                zip(sample.ids, sample.logprobs, sample.top, strict=True)
            ):
                expected = model(torch.tensor([[*ids, *sample.ids[:index]]]))[0, -1].double().log_softmax(-1)
                best = expected.topk(3)
                assert [likely.id for likely in top] == best.indices.tolist()
                assert [likely.logprob for likely in top] == pytest.approx(best.values.tolist(), abs=1e-4)
                assert logprob == pytest.approx(float(expected[token]), abs=1e-4)

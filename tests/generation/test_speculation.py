"""Reading ahead writes the text of reading token by token, to the last bit."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.choice import decoder_for
from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Sample, Stats, generate, read_prompt
from tests.conftest import needs_compiled
from tests.helpers.standins import byte_tokenizer, random_model

TOKENIZER = byte_tokenizer()


@pytest.fixture(scope="module", params=["gpt2", "nanochat"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    model = random_model(257, arch=request.param, context=24)
    return decoder_for(model, "bfloat16", tmp_path_factory.mktemp("kernels"))


def write(decoder: Decoder, text: str, **flags: Any) -> tuple[Sample, Stats]:
    prompt = read_prompt(TOKENIZER, text, 24)
    *_, sample, stats = generate(decoder, TOKENIZER, [prompt], Sampling(**flags), top=3)
    assert isinstance(sample, Sample)
    assert isinstance(stats, Stats)
    return sample, stats


@settings(max_examples=40)
@given(
    text=st.text("ab", max_size=40),
    flags=st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0, 0.3, 1]),
            "window": st.sampled_from(["half", "exact"]),
            "max_new_tokens": st.integers(1, 70),
            "seed": st.integers(0, 99),
            "repetition_penalty": st.sampled_from([0.1, 1, 1.1]),
            "frequency_penalty": st.sampled_from([-3, 0, 0.5]),
            "no_repeat_ngram": st.sampled_from([0, 6]),
            "stop": st.sampled_from([(), ("ba",), ("e",)]),
        }
    ),
)
def test_the_text_is_that_of_the_plain_loop(decoder: Decoder, text: str, flags: dict[str, Any]) -> None:
    """Also its log-probabilities and the likeliest tokens; within the context, past it, and at its edges."""
    plain, ahead = write(decoder, text, **flags), write(decoder, text, speculate=True, **flags)
    assert ahead[0] == plain[0]
    assert plain[1].guessed == 0


@needs_compiled
def test_what_repeats_itself_is_read_ahead(decoder: Decoder) -> None:
    flags: dict[str, Any] = {"seed": 1, "max_new_tokens": 60, "speculate": True, "logit_bias": ("x=1000",)}
    sample, stats = write(decoder, "x" * 9, **flags)
    assert sample.text == "x" * 60
    assert 30 < stats.right <= stats.guessed < 60
    sample, stats = write(decoder, "x" * 9, no_repeat_ngram=20, **flags)
    assert sample.text[:12] != "x" * 12
    assert stats.guessed > stats.right > 0

"""The cached path against the whole text read at once, and the rule for texts longer than the context."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.base.errors import MygptError
from mygpt_cli.generation.decoding import DecodingState, window_start
from tests.helpers.standins import random_model


@settings(max_examples=40)
@given(
    arch=st.sampled_from(["gpt2", "nanochat"]),
    batch=st.integers(1, 4),
    length=st.integers(1, 24),
    prompt=st.integers(1, 24),
    seed=st.integers(0, 10**6),
)
def test_prefill_and_decode_one_token_give_the_logits_of_the_whole(
    arch: str, batch: int, length: int, prompt: int, seed: int
) -> None:
    model = random_model(50, arch=arch)
    ids = torch.randint(50, (batch, length), generator=torch.Generator().manual_seed(seed))
    prompt = min(prompt, length)
    whole = model(ids)
    cache = model.new_cache(batch)
    torch.testing.assert_close(
        ReferenceDecoder(model).prefill(ids[:, :prompt], cache), whole[:, prompt - 1], rtol=0, atol=1e-5
    )
    for place in range(prompt, length):
        logits, _ = ReferenceDecoder(model).decode(ids[:, place].tolist(), cache)
        torch.testing.assert_close(logits, whole[:, place], rtol=0, atol=1e-5)


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
@pytest.mark.parametrize("window", ["half", "exact"])
def test_a_reader_gives_the_logits_of_its_window(arch: str, window: str) -> None:
    """Each row as if its window were the whole text, also after the rows have changed places."""
    model = random_model(50, arch=arch, context=8)
    texts, begins = [[1, 2, 3], [4]], [0, 0]
    reader = DecodingState(
        ReferenceDecoder(model), torch.tensor([[1, 2, 3], [-1, -1, 4]]), room=30, window=window, most=3
    )
    for index in range(30):
        for row, text in enumerate(texts):
            if len(text) - begins[row] > 8:
                begins[row] = len(text) - (8 if window == "exact" else 4)
        expected = torch.cat(
            [
                model(torch.tensor([ids[begin:]]))[:, -1].double()
                for ids, begin in zip(texts, begins, strict=True)
            ]
        )
        torch.testing.assert_close(reader.logits(), expected, rtol=0, atol=1e-5)
        rows = [[1, 0], [1, 0], [1, 1, 0]][index] if index < 3 else [2, 0, 1]
        reader.select(rows)
        torch.testing.assert_close(reader.logits(), expected[rows], rtol=0, atol=1e-5)
        reader.append(list(range(index, index + len(rows))))
        texts = [[*texts[row], index + place] for place, row in enumerate(rows)]
        begins = [begins[row] for row in rows]


@given(context=st.integers(2, 50), length=st.integers(1, 100), window=st.sampled_from(["half", "exact"]))
def test_the_window_rule(context: int, length: int, window: str) -> None:
    """What is seen is never longer than the context, never moves back; reading anew is cheap on average."""
    start, read, tokens = max(0, length - context), 0, 1000
    for now in range(length, length + tokens):
        moved = window_start(now, start, context, window)
        assert start <= moved < now
        assert now - moved <= context
        read += now - moved if moved != start else 1
        start = moved
    if window == "half":
        assert read <= 2 * tokens + context


@pytest.mark.parametrize(
    ("name", "part"),
    [("embedding", "the embedding"), ("blocks.1.mlp.up.weight", "layer 2 of 2"), ("norm.weight", "the head")],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error_that_names_the_layer(
    name: str, part: str, value: float
) -> None:
    model = random_model(50)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = value
    with pytest.raises(MygptError, match=f"token 3 are not finite .* in {part}") as caught:
        DecodingState(ReferenceDecoder(model), torch.tensor([[0, 2]]), room=1, window="half").logits()
    assert caught.value.exit_code == 1

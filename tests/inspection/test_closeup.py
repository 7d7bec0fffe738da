"""A token at close range: scores and logits are those of the model's own pass."""

import math
from typing import Any

import pytest
import torch

from mygpt_cli.inspection.closeup import best_logits, scores_of
from mygpt_cli.inspection.trace import heads_of, trace
from tests.helpers.standins import byte_tokenizer, random_model

IDS = tuple(b"Once upon a time")
TOKENIZER = byte_tokenizer()


@pytest.mark.parametrize(
    "parts",
    [{"arch": "gpt2"}, {"arch": "nanochat"}, {"arch": "qwen3", "window": 6, "windowed": (1,)}],
    ids=str,
)
def test_scores_become_the_weights_of_the_model(parts: dict[str, Any]) -> None:
    traced = trace(random_model(257, **parts), IDS)
    found = list(scores_of(traced, range(2), TOKENIZER, position=20, most=5))
    assert [(head.layer, head.head) for head in found] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for head in found:
        weights = heads_of(traced, head.layer - 1).weights[head.head - 1, -1].tolist()
        assert [match.weight for match in head.matches] == sorted(weights, reverse=True)[:5]
        assert head.rest + sum(match.weight for match in head.matches) == pytest.approx(1, abs=1e-6)
        for match in head.matches:
            place = match.position - 20 + len(IDS) - 1
            assert match.token == bytes([IDS[place]])
            assert match.weight == pytest.approx(weights[place], abs=1e-7)
            product = sum(q * k for q, k in zip(head.query, match.key, strict=True))
            assert product == pytest.approx(match.product, abs=1e-9)
            share = math.exp(match.product / len(head.query) ** 0.5 - head.log_sum)
            assert share == pytest.approx(match.weight, abs=1e-5)


def test_what_lies_before_the_window_is_no_position() -> None:
    traced = trace(random_model(257, arch="qwen3", window=3, windowed=(1,)), IDS)
    whole, _, windowed, _ = scores_of(traced, range(2), TOKENIZER, position=16, most=5)
    assert (whole.positions, len(whole.matches)) == (16, 5)
    assert windowed.positions == 3
    assert sorted(match.position for match in windowed.matches) == [14, 15, 16]
    assert windowed.rest == 0


def test_a_shared_key_is_that_of_its_group() -> None:
    model = random_model(257, arch="llama", heads=4, kv_heads=2)
    traced = trace(model, IDS)
    first, second, third, _ = scores_of(traced, [0], TOKENIZER, position=16, most=16)
    keys = [{match.position: match.key for match in head.matches} for head in (first, second, third)]
    assert keys[0] == keys[1] != keys[2]
    assert sorted(keys[0]) == list(range(1, 17))
    assert first.rest == 0


def test_the_best_logits_are_those_of_the_model() -> None:
    model = random_model(257)
    logits = model(torch.tensor([IDS]))[0, -1].double()
    found = best_logits(trace(model, IDS), TOKENIZER, 30)
    order = logits.sort(descending=True, stable=True).indices[:30].tolist()
    assert [one.id for one in found] == order
    for one in found:
        assert one.logit == pytest.approx(float(logits[one.id]), abs=1e-5)
        assert one.probability == pytest.approx(float(logits.softmax(0)[one.id]), abs=1e-6)
        assert one.token == TOKENIZER.token_bytes(one.id)

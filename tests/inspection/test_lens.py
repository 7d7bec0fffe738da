"""The prediction after each layer, against the model itself and sums by hand."""

import math

import pytest
import torch

from mygpt_cli.inspection import lens
from mygpt_cli.inspection.lens import best_of, view_lens
from mygpt_cli.inspection.trace import trace
from tests.helpers.standins import byte_tokenizer, random_model

IDS = tuple(b"Once upon a time")


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_every_layer_is_the_head_on_its_stream(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "CHUNK", 5)  # positions in several parts
    model = random_model(257, arch=arch)
    found = trace(model, IDS)
    views = view_lens(found, byte_tokenizer())
    final = model(torch.tensor([IDS]))[0].double().softmax(-1)
    assert [view.token for view in views] == [bytes([token]) for token in IDS]
    assert [view.index for view in views] == list(range(1, 17))
    for at, view in enumerate(views):
        assert view.answer == int(final[at].argmax())
        assert view.guesses[-1].probability == pytest.approx(float(final[at].max()), abs=1e-6)
        for guess, stream in zip(view.guesses, found.streams, strict=True):
            probs = model.unembed(model.norm(stream[at])).double().softmax(-1).tolist()
            order = sorted(range(257), key=lambda token: -probs[token])
            assert guess.id == order[0]
            assert guess.token == byte_tokenizer().token_bytes(guess.id)
            assert guess.probability == pytest.approx(probs[order[0]], abs=1e-6)
            assert guess.answer_rank == order.index(view.answer) + 1
            assert guess.answer_probability == pytest.approx(probs[view.answer], abs=1e-6)
            entropy = -sum(p * math.log2(p) for p in probs)
            away = sum(p * math.log2(p / q) for p, q in zip(final[at].tolist(), probs, strict=True))
            assert guess.entropy == pytest.approx(entropy, abs=1e-4)
            assert guess.divergence == pytest.approx(away, abs=1e-4)


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_the_last_layer_is_the_model_and_what_is_decided_stays(arch: str) -> None:
    views = view_lens(trace(random_model(257, arch=arch), IDS), byte_tokenizer())
    for view in views:
        last = view.guesses[-1]
        assert (last.layer, last.id, last.answer_rank, last.divergence) == (2, view.answer, 1, 0.0)
        assert all(guess.id == view.answer for guess in view.guesses[view.decided :])
        assert view.decided == 0 or view.guesses[view.decided - 1].id != view.answer


def test_positions_are_those_of_the_prompt_where_the_model_sees_only_its_end() -> None:
    model = random_model(257, context=10)
    found = trace(model, IDS)
    assert (found.before, found.ids) == (6, IDS[6:])
    assert [view.index for view in view_lens(found, byte_tokenizer())] == list(range(7, 17))


def test_among_equal_tokens_the_first_is_best() -> None:
    model = random_model(257)
    model.embedding.zero_()  # tied: all logits are equal
    (view,) = view_lens(trace(model, (5,)), byte_tokenizer())
    assert [(guess.id, guess.answer_rank) for guess in view.guesses] == [(0, 1)] * 3
    assert view.decided == 0
    assert view.guesses[0].entropy == pytest.approx(math.log2(257))


def test_the_best_tokens_of_each_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "CHUNK", 3)
    found = trace(random_model(257), IDS)
    views = view_lens(found, byte_tokenizer())
    ids, probs = best_of(found, 5, 7)
    assert ids.shape == probs.shape == (3, 7, 5)
    for at, view in enumerate(views[-7:]):
        for layer, guess in enumerate(view.guesses):
            assert int(ids[layer, at, 0]) == guess.id
            assert float(probs[layer, at, 0]) == pytest.approx(guess.probability)
            logits = found.model.unembed(found.model.norm(found.streams[layer][9 + at])).double()
            best = logits.softmax(-1).topk(5)
            assert ids[layer, at].tolist() == best.indices.tolist()
            assert probs[layer, at].tolist() == pytest.approx(best.values.tolist())
    assert best_of(found, 900, 900)[0].shape == (3, 16, 257)

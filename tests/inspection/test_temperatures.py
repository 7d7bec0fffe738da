"""The distribution at several temperatures, by hand and as `sample` draws from it."""

import math

import pytest
import torch

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Prompt
from mygpt_cli.inspection.steps import spread, view_steps
from mygpt_cli.inspection.temperatures import TemperaturesView, view_temperatures
from mygpt_cli.model.gpt import GPT
from tests.helpers.standins import byte_tokenizer, random_model

DEGREES = (0.0, 0.1, 0.5, 1.0, 1.5, 2.0)
PROMPT = Prompt("ab", (97, 98))


@pytest.fixture(scope="module")
def model() -> GPT:
    return random_model(257, arch="nanochat")


def at_degrees(model: GPT, top: int = 5, **settings: float) -> TemperaturesView:
    sampling = Sampling(seed=4, **settings)  # type: ignore[arg-type]
    return view_temperatures(ReferenceDecoder(model), byte_tokenizer(), PROMPT, sampling, DEGREES, top=top)


def test_softmax_by_hand(model: GPT) -> None:
    logits = model(torch.tensor([PROMPT.ids]))[0, -1].tolist()
    view = at_degrees(model)
    best = max(logits)
    for at, degree in enumerate(DEGREES):
        if degree:
            powers = [math.exp((logit - best) / degree) for logit in logits]
        else:
            powers = [float(logit == best) for logit in logits]
        probs = [power / sum(powers) for power in powers]
        for candidate in view.candidates:
            assert candidate.probabilities[at] == pytest.approx(probs[candidate.id], abs=1e-5)
        entropy = -sum(p * math.log2(p) for p in probs if p)
        assert view.spreads[at].entropy == pytest.approx(entropy, abs=1e-4)
        assert view.spreads[at].choices == pytest.approx(2**entropy, rel=1e-3)
        total = sum(c.probabilities[at] for c in view.candidates) + view.others.probabilities[at]
        assert total == pytest.approx(1)
    assert len(view.candidates) + view.others.count == 257


def test_each_column_is_what_the_step_at_that_temperature_shows(model: GPT) -> None:
    view = at_degrees(model, top=257, top_k=30)
    for at, degree in enumerate(DEGREES):
        sampling = Sampling(seed=4, temperature=degree, top_k=30, max_new_tokens=1)
        (step,) = view_steps(ReferenceDecoder(model), byte_tokenizer(), PROMPT, sampling, top=257)
        assert view.picked[at] == step.picked.id
        assert view.draw == step.draw
        assert view.spreads[at] == step.final_spread
        expected = {c.id: c.final_probability for c in step.candidates}
        assert {c.id: c.probabilities[at] for c in view.candidates} == expected
        assert {c.id for c in view.candidates if c.cut[at]} == {c.id for c in step.candidates if c.cut_by}
        few = at_degrees(model, top=3, top_k=30)
        kept = sum(not c.cut[at] for c in few.candidates) + few.others.kept[at]
        assert kept == (30 if degree else 1)


def test_all_that_are_picked_are_listed_in_the_order_of_their_logits(model: GPT) -> None:
    view = at_degrees(model, top=2)
    ids = [candidate.id for candidate in view.candidates]
    assert set(view.picked) <= set(ids)
    assert len(ids) > 2
    logits = [candidate.logit for candidate in view.candidates]
    assert logits == sorted(logits, reverse=True)


def test_entropy_by_hand() -> None:
    half = spread(torch.tensor([0.5, 0.25, 0.25, 0.0]))
    assert (half.entropy, half.choices) == pytest.approx((1.5, 2**1.5))
    assert spread(torch.full((8,), 0.125)).choices == pytest.approx(8)
    assert spread(torch.tensor([0.0, 1.0])).entropy == 0

"""What is kept of each step suffices to choose again, by the filters and the draw of generation itself."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.generation.sampler import choose
from mygpt_cli.generation.stream import read_prompt
from mygpt_cli.inspection import choices
from mygpt_cli.inspection.choices import ChoiceRecorder, can_redo
from mygpt_cli.inspection.steps import StepView, view_steps
from tests.helpers.standins import byte_tokenizer, learned, random_model


def recorded(size: int, **settings: Any) -> tuple[list[StepView], ChoiceRecorder]:
    tokenizer = byte_tokenizer() if size == 257 else learned(size)
    sampling = Sampling(**({"seed": 8, "max_new_tokens": 4} | settings))
    recorder = ChoiceRecorder(sampling, size)
    decoder, start = ReferenceDecoder(random_model(size)), read_prompt(tokenizer, "Once", 24)
    return list(view_steps(decoder, tokenizer, start, sampling, top=9, watch=recorder.record)), recorder


def test_of_a_small_vocabulary_everything_is_kept() -> None:
    views, recorder = recorded(257, temperature=0.7, top_k=30, repetition_penalty=1.5)
    assert recorder.early == ["repetition-penalty"]
    for view, choice in zip(views, recorder.choices, strict=True):
        assert choice.rest is None
        assert choice.ids == tuple(range(257))
        assert (choice.picked, choice.draw) == (view.picked.id, view.draw)
        ((name, logits),) = choice.stages
        assert name == "repetition-penalty"
        for candidate in view.candidates:
            assert choice.logits[candidate.id] == candidate.logit
            share = float(torch.tensor(logits, dtype=torch.float64).softmax(0)[candidate.id])
            assert candidate.stages[0] == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"temperature": 0.83, "ban": ("a",)}])
def test_of_a_large_one_the_best_and_what_the_rest_amounts_to(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    whole, everything = recorded(420, **settings)
    monkeypatch.setattr(choices, "FULL", 300)
    monkeypatch.setattr(choices, "BEST", 100)
    views, recorder = recorded(420, **settings)
    assert views == whole
    assert recorder.sampling.temperature in recorder.degrees
    for choice, full in zip(recorder.choices, everything.choices, strict=True):
        rest = choice.rest
        assert rest is not None
        ranked = sorted(range(420), key=lambda token: (-full.logits[token], token))
        assert [ranked.index(token) + 1 for token in choice.ids] == list(rest.ranks)
        assert rest.count == 420 - len(choice.ids)
        left = torch.tensor(full.stages[-1][1] if full.stages else full.logits, dtype=torch.float64)
        others = [token for token in range(420) if token not in choice.ids]
        assert rest.best == float(left[others].max())
        assert rest.best <= sorted(left[list(choice.ids)].tolist())[-100]
        for at, degree in enumerate(recorder.degrees):
            if degree == 0:
                assert rest.picks[at] == int(left.argmax())
                continue
            shares = logits_to_probs(left / degree)
            draws = torch.tensor([choice.draw], dtype=torch.float64)
            assert rest.picks[at] == int(choose(shares[None], draws).ids[0])
            total = torch.tensor(rest.sums[at]).exp() / (left / degree).logsumexp(0).exp()
            assert float(total) == pytest.approx(float(shares[others].sum()), rel=1e-5)
        spans = {token: (low, high) for token, low, high in rest.line}
        assert spans[choice.picked][0] <= choice.draw < spans[choice.picked][1]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "MOST_LOGITS", 600)
    views, recorder = recorded(257)
    assert (len(views), recorder.steps) == (4, 4)
    assert len(recorder.choices) == 2


def test_filters_that_come_late_cannot_be_redone() -> None:
    sampling = Sampling(seed=1, repetition_penalty=1.2, top_k=3)
    assert can_redo(sampling)
    assert can_redo(replace(sampling, temperature=0.0))
    for degree in (0.5, 0.0):
        late = replace(sampling, filters="temperature,top-k,repetition-penalty", temperature=degree)
        assert not can_redo(late)

"""The numbers of each step against transformers with the same weights, and against sums by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.generation import logits_process as theirs

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.checkpoints.checkpoint import Checkpoint, load
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.sampler import draw
from mygpt_cli.generation.stream import Sample, generate, read_prompt
from mygpt_cli.inspection.steps import StepView, view_steps
from tests.helpers.standins import random_checkpoint


@pytest.fixture(scope="module", params=["gpt2", "nanochat"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("steps") / request.param, arch=request.param)


def steps_of(checkpoint: Checkpoint, prompt: str, top: int = 5, **settings: Any) -> list[StepView]:
    start = read_prompt(checkpoint.tokenizer, prompt, checkpoint.config.context)
    sampling = Sampling(**({"seed": 8, "max_new_tokens": 6} | settings))
    return list(
        view_steps(ReferenceDecoder(checkpoint.model), checkpoint.tokenizer, start, sampling, top=top)
    )


def test_the_numbers_are_those_of_transformers(folder: Path) -> None:
    checkpoint = load(folder)
    other = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = checkpoint.tokenizer.encode("Once upon")
    for view in steps_of(checkpoint, "Once upon", top=10, temperature=0.6, top_k=20, top_p=0.7, min_p=0.01):
        with torch.no_grad():
            logits = other(torch.tensor([ids])).logits[:, -1].double()
        after: list[Any] = [logits]
        for warper in (
            theirs.TemperatureLogitsWarper(0.6),
            theirs.TopKLogitsWarper(20),
            theirs.TopPLogitsWarper(0.7),
            theirs.MinPLogitsWarper(0.01),
        ):
            after.append(warper(None, after[-1]))
        stages = [filtered.softmax(-1)[0].tolist() for filtered in after[1:]]
        final = stages[-1]
        probs = logits.softmax(-1)[0].tolist()
        best = sorted(range(len(probs)), key=lambda token: -probs[token])
        assert [c.id for c in view.candidates[:10]] == best[:10]
        for candidate in view.candidates:
            assert candidate.logit == pytest.approx(float(logits[0, candidate.id]), abs=1e-4)
            assert candidate.probability == pytest.approx(probs[candidate.id], abs=1e-5)
            expected = [shares[candidate.id] for shares in stages]
            assert candidate.stages == pytest.approx(expected, abs=1e-5)
            assert candidate.final_probability == pytest.approx(final[candidate.id], abs=1e-5)
            assert best[candidate.rank - 1] == candidate.id
            assert (candidate.cut_by is None) == (final[candidate.id] > 0)
            assert candidate.token == checkpoint.tokenizer.token_bytes(candidate.id)
        for spread, shares in ((view.model_spread, probs), (view.final_spread, final)):
            entropy = -sum(p * math.log2(p) for p in shares if p > 0)
            assert spread.entropy == pytest.approx(entropy, abs=1e-4)
            assert spread.choices == pytest.approx(2**entropy, rel=1e-3)
        ids.append(view.picked.id)


def test_every_column_sums_to_one_and_intervals_are_as_long_as_probabilities(folder: Path) -> None:
    for view in steps_of(load(folder), "The cat", temperature=1.5, top_p=0.9):
        listed = view.candidates
        assert sum(c.probability for c in listed) + view.others.probability == pytest.approx(1)
        assert sum(c.final_probability for c in listed) + view.others.final_probability == pytest.approx(1)
        assert view.filters == ("temperature", "top-p")
        for at, (share, kept) in enumerate(view.others.stages):
            assert sum(c.stages[at] for c in listed) + share == pytest.approx(1)
            assert (share > 0) == (kept > 0)
        assert len(listed) + view.others.count == 280
        for candidate in listed:
            assert candidate.high - candidate.low == pytest.approx(candidate.final_probability, abs=1e-12)


def test_the_draw_decides_and_is_that_of_the_seed(folder: Path) -> None:
    for number, view in enumerate(steps_of(load(folder), "The cat", temperature=2)):
        assert view.draw == draw(8, 1, number)
        assert view.picked.low <= view.draw < view.picked.high
        assert sum(candidate.picked for candidate in view.candidates) == 1


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_log_probabilities_are_transformers_transition_scores(folder: Path, temperature: float) -> None:
    checkpoint = load(folder)
    views = steps_of(checkpoint, "The cat", temperature=temperature, max_new_tokens=8)
    picked = [view.picked for view in views]
    # Their generation is made to write the same, so that its scores are those of the same tokens.
    start = checkpoint.tokenizer.encode("The cat")
    sequence = [*start, *(one.id for one in picked)]
    other = transformers.AutoModelForCausalLM.from_pretrained(folder)
    settings: dict[str, Any] = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    out = other.generate(
        torch.tensor([start]),
        max_new_tokens=len(picked),
        eos_token_id=None,
        pad_token_id=0,
        prefix_allowed_tokens_fn=lambda batch, ids: [sequence[len(ids)]],
        **settings,
    )
    assert out.sequences[0].tolist() == sequence
    scores = other.compute_transition_scores(out.sequences, out.logits, normalize_logits=True)[0].tolist()
    assert [math.log(one.probability) for one in picked] == pytest.approx(scores, abs=1e-4)
    if temperature:
        warped = tuple(logits / temperature for logits in out.logits)
        scores = other.compute_transition_scores(out.sequences, warped, normalize_logits=True)[0].tolist()
        assert [math.log(one.final_probability) for one in picked] == pytest.approx(scores, abs=1e-4)


def test_a_picked_token_far_down_is_shown_with_its_rank(folder: Path) -> None:
    views = steps_of(load(folder), "The cat", temperature=50, max_new_tokens=20, top=2)
    assert any(len(view.candidates) == 3 and view.picked.rank > 3 for view in views)
    assert all(view.candidates[-1].picked for view in views if len(view.candidates) == 3)


def test_inspect_sees_the_text_that_sample_writes(folder: Path) -> None:
    checkpoint = load(folder)
    start = read_prompt(checkpoint.tokenizer, "The cat", 24)
    sampling = Sampling(seed=21, max_new_tokens=60, temperature=1)
    events = generate(ReferenceDecoder(checkpoint.model), checkpoint.tokenizer, [start], sampling)
    (sample,) = [event for event in events if isinstance(event, Sample)]
    views = steps_of(checkpoint, "The cat", seed=21, max_new_tokens=60, temperature=1)
    assert tuple(view.picked.id for view in views) == sample.ids
    logs = [math.log(view.picked.probability) for view in views]
    assert logs == pytest.approx(sample.logprobs, abs=1e-9)


def test_the_filter_that_cut_a_token_is_named(folder: Path) -> None:
    checkpoint = load(folder)
    cut = {
        c.cut_by for view in steps_of(checkpoint, "a", top=280, top_k=9, top_p=0.8) for c in view.candidates
    }
    assert cut == {None, "top-k", "top-p"}
    (view,) = steps_of(checkpoint, "a", temperature=0, max_new_tokens=1)
    assert view.filters == ("greedy",)
    assert [c.cut_by for c in view.candidates] == [None, "greedy", "greedy", "greedy", "greedy"]
    assert view.final_spread.entropy == 0
    assert view.final_spread.choices == 1


def test_more_candidates_than_tokens(folder: Path) -> None:
    (view,) = steps_of(load(folder), "a", top=1000, max_new_tokens=1)
    assert len(view.candidates) == 280
    assert view.others.count == view.others.kept == 0


def test_every_filter_shows_in_the_steps_as_it_acts(folder: Path) -> None:
    """Filters that look back or work on text need nothing of their own here."""
    checkpoint = load(folder)
    settings: dict[str, Any] = {
        "repetition_penalty": 1.5,
        "ban": ("e",),
        "typical_p": 0.8,
        "no_repeat_ngram": 1,
    }
    views = steps_of(checkpoint, "The cat", top=280, logit_bias=("5=3",), ignore_end=True, **settings)
    for view in views:
        assert view.filters == (
            *("logit-bias", "repetition-penalty", "no-repeat-ngram", "ban", "ignore-end"),
            *("temperature", "typical-p"),
        )
        cut = {candidate.cut_by for candidate in view.candidates}
        assert cut == {None, "no-repeat-ngram", "ban", "ignore-end", "typical-p"}
        banned = [c for c in view.candidates if b"e" in c.token and c.id != checkpoint.tokenizer.end_of_text]
        assert banned
        assert all(c.cut_by in ("ban", "no-repeat-ngram") for c in banned)
    start = read_prompt(checkpoint.tokenizer, "The cat", 24)
    sampling = Sampling(seed=8, max_new_tokens=6, logit_bias=("5=3",), ignore_end=True, **settings)
    events = generate(ReferenceDecoder(checkpoint.model), checkpoint.tokenizer, [start], sampling)
    (sample,) = [event for event in events if isinstance(event, Sample)]
    assert tuple(view.picked.id for view in views) == sample.ids

"""The steps of beam search, against trying all extensions by the model itself."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Prompt, Sample, generate
from mygpt_cli.inspection.beams import BeamsView, Branch, view_beams
from mygpt_cli.ui.records import as_json
from tests.helpers.standins import byte_tokenizer, random_model

TOKENIZER = byte_tokenizer()
MODEL = random_model(TOKENIZER.vocab_size)
PROMPT = Prompt("cat", tuple(TOKENIZER.encode("cat")))


def search(sampling: Sampling) -> BeamsView:
    return view_beams(ReferenceDecoder(MODEL), TOKENIZER, PROMPT, sampling)


def paths(view: BeamsView) -> list[list[tuple[tuple[int, ...], Branch]]]:
    """Return the branches of each step with all their token ids, by following their parents."""
    steps: list[list[tuple[tuple[int, ...], Branch]]] = []
    kept: list[tuple[int, ...]] = [()]
    for step in view.steps:
        steps.append([((*kept[branch.parent], branch.id), branch) for branch in step.branches])
        kept = [(), *(ids for ids, branch in steps[-1] if branch.fate == "kept")]
    return steps


@settings(max_examples=15)
@given(beams=st.integers(2, 5), length=st.integers(1, 6), penalty=st.floats(-1, 2))
def test_each_step_has_the_best_extensions_of_what_was_kept(beams: int, length: int, penalty: float) -> None:
    """The slow way: the model reads every kept text anew, and all of its extensions are sorted."""
    view = search(Sampling(seed=0, beams=beams, max_new_tokens=length, length_penalty=penalty))
    kept: list[tuple[int, ...]] = [()]
    totals: dict[tuple[int, ...], float] = {(): 0.0}
    for index, step in enumerate(paths(view), 1):
        every: dict[tuple[int, ...], float] = {}
        for ids in kept:
            logprobs = MODEL(torch.tensor([[*PROMPT.ids, *ids]]))[0, -1].double().log_softmax(-1).tolist()
            every |= {(*ids, token): totals[ids] + logprob for token, logprob in enumerate(logprobs)}
        best = sorted(every, key=every.__getitem__, reverse=True)[: len(step)]
        assert len(step) == 2 * beams
        assert [branch.total for _, branch in step] == pytest.approx([every[ids] for ids in best], abs=1e-4)
        for number, (ids, branch) in enumerate(step):
            assert branch.total == pytest.approx(every[ids], abs=1e-4)
            assert branch.score == pytest.approx(branch.total / index**penalty, rel=1e-9)
            assert branch.written == TOKENIZER.decode_bytes(ids)
            assert (branch.fate == "kept") == (branch.number is not None)
            if index == length:
                assert branch.fate == ("finished" if number < beams else "dropped")
        kept = [ids for ids, branch in step if branch.fate == "kept"]
        assert len(kept) == (0 if index == length else beams)
        totals = {ids: branch.total for ids, branch in step}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"length_penalty": 0.0, "no_repeat_ngram": 1},
        {"stop": ("e", "t")},
        {"repetition_penalty": 1.3, "begin_with": "a"},
    ],
)
def test_what_is_found_is_what_generation_writes(changes: dict[str, object]) -> None:
    sampling = Sampling(seed=0, beams=3, num_samples=3, max_new_tokens=8, **changes)  # type: ignore[arg-type]
    view = search(sampling)
    events = generate(ReferenceDecoder(MODEL), TOKENIZER, [PROMPT], sampling)
    samples = [event for event in events if isinstance(event, Sample)]
    assert [found.ids for found in view.found] == [sample.ids for sample in samples]
    assert [found.score for found in view.found] == [sample.score for sample in samples]
    assert view.text == samples[0].text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    ended = {ids: branch for step in paths(view) for ids, branch in step if branch.fate == "finished"}
    for found in view.found:
        assert ended[found.ids].score == found.score


def test_the_record_is_plain() -> None:
    record = as_json(search(Sampling(seed=0, beams=2, max_new_tokens=3)))
    assert json.loads(json.dumps(record)) == record
    branch = record["steps"][0]["branches"][0]
    assert branch["text"] == bytes.fromhex(branch["bytes"]).decode("utf-8", "replace")

"""The filters against transformers' own, against tables worked out by hand, and by their properties."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import logits_process as theirs

from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation import logits as on
from mygpt_cli.generation.chain import chain, run
from mygpt_cli.generation.logits import greedy, logits_to_probs, min_p, temperature, top_k, top_p, typical_p
from tests.helpers.rules import of_newer_transformers
from tests.helpers.standins import byte_tokenizer

EXAMPLE = torch.tensor([2.0, 1.0, 0.0])
TOKENIZER = byte_tokenizer()


def apply(logits: Tensor, sampling: Sampling) -> Tensor:
    """Run the chain on logits (V,) or (B, V) after no text at all."""
    rows = logits.view(-1, logits.size(-1))
    nothing = torch.zeros(len(rows), 0, dtype=torch.long)
    return run(chain(sampling, TOKENIZER), rows, nothing, 0).logits.view_as(logits)


def kept(logits: Tensor) -> list[int]:
    return logits.isfinite().nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("degree", "expected"),
    [
        (1.0, (0.665, 0.245, 0.090)),
        (0.5, (0.867, 0.117, 0.016)),
        (2.0, (0.506, 0.307, 0.186)),
        (100.0, (0.337, 0.333, 0.330)),
    ],
)
def test_temperature_by_hand(degree: float, expected: tuple[float, ...]) -> None:
    probs = logits_to_probs(apply(EXAMPLE, Sampling(temperature=degree, seed=0)))
    assert probs.tolist() == pytest.approx(expected, abs=0.0006)


def test_top_p_by_hand() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert kept(top_p(logits, 0.4)) == [0]
    assert kept(top_p(logits, 0.51)) == [0, 1]
    assert kept(top_p(logits, 0.79)) == [0, 1]
    assert kept(top_p(logits, 0.81)) == [0, 1, 2]
    assert kept(top_p(logits, 1.0)) == [0, 1, 2, 3]
    assert kept(top_p(logits, 1e-9)) == [0]
    assert kept(top_p(torch.zeros(4), 0.5)) == [0, 1]


def test_min_p_by_hand() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert kept(min_p(logits, 0.0)) == [0, 1, 2, 3]
    assert kept(min_p(logits, 0.2)) == [0, 1, 2]
    assert kept(min_p(logits, 0.7)) == [0]


def test_top_k_keeps_ties_of_the_last_and_all_when_there_are_fewer() -> None:
    logits = torch.tensor([1.0, 3.0, 1.0, 2.0])
    assert kept(top_k(logits, 2)) == [1, 3]
    assert kept(top_k(logits, 3)) == [0, 1, 2, 3]
    assert torch.equal(top_k(logits, 4), logits)
    assert torch.equal(top_k(logits, 1000), logits)


def test_greedy_is_the_best_token_and_the_lowest_id_on_ties() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
    assert logits_to_probs(greedy(logits)).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert torch.equal(apply(logits, Sampling(temperature=0, seed=0)), greedy(logits))


def test_typical_p_by_hand() -> None:
    # The entropy of these is 1.14 nats, their surprises 0.69, 1.20, 1.90 and 3.00.
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert kept(typical_p(logits, 0.2)) == [1]
    assert kept(typical_p(logits, 0.5)) == [0, 1]
    assert kept(typical_p(logits, 0.9)) == [0, 1, 2]
    assert kept(typical_p(logits, 1.0)) == [0, 1, 2, 3]


def test_frequency_and_presence_penalties_by_hand() -> None:
    logits, ids = torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[0, 2, 2]])
    assert on.frequency_penalty(logits, ids, 0.5).tolist() == [[0.5, 1.0, 0.0]]
    assert on.presence_penalty(logits, ids, 0.5).tolist() == [[0.5, 1.0, 0.5]]
    assert on.presence_penalty(logits, ids[:, :0], 0.5).tolist() == logits.tolist()


shapes = st.tuples(st.integers(1, 4), st.integers(2, 300))
shares = st.floats(0.001, 0.999)


@given(
    shape=shapes, seed=st.integers(0, 2**31), spread=st.floats(0.1, 20), coarse=st.booleans(), data=st.data()
)
def test_each_filter_agrees_with_transformers(
    shape: tuple[int, int], seed: int, spread: float, coarse: bool, data: st.DataObject
) -> None:
    logits = spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if coarse:  # many ties
        logits = logits.round()
    degree, share = data.draw(st.floats(0.01, 100)), data.draw(shares)
    k = data.draw(st.integers(1, 2 * shape[1]))
    pairs: list[tuple[Tensor, Any]] = [
        (temperature(logits, degree), theirs.TemperatureLogitsWarper(degree)),
        (top_k(logits, k), theirs.TopKLogitsWarper(k)),
        (top_p(logits, share), theirs.TopPLogitsWarper(share)),
        (min_p(logits, share), theirs.MinPLogitsWarper(share)),
        (typical_p(logits, share), theirs.TypicalLogitsWarper(share)),
    ]
    for ours, processor in pairs:
        expected = processor(None, logits)
        if (
            isinstance(processor, theirs.TopPLogitsWarper)
            and len(set(logits.flatten().tolist())) < logits.numel()
        ):
            # Which of several equal tokens transformers keeps is left to an unstable sort.
            ours, expected = ours.sort().values, expected.sort().values
        assert torch.equal(ours, expected), processor


@of_newer_transformers
@given(
    shape=shapes,
    length=st.integers(0, 40),
    seed=st.integers(0, 2**31),
    penalty=st.floats(0.1, 10),
    n=st.integers(1, 5),
    sequence=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    amount=st.one_of(st.floats(-20, 20), st.just(-math.inf)),
)
def test_each_filter_that_looks_back_agrees_with_transformers(
    shape: tuple[int, int], length: int, seed: int, penalty: float, n: int, sequence: list[int], amount: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(shape, generator=generator)
    words = min(4, shape[1])  # few, so that they repeat
    ids = torch.randint(words, (shape[0], length), generator=generator)
    sequence = [token % words for token in sequence]
    pairs: list[tuple[Tensor, Any]] = [
        (on.repetition_penalty(logits, ids, penalty), theirs.RepetitionPenaltyLogitsProcessor(penalty)),
        (on.no_repeat_ngram(logits, ids, n), theirs.NoRepeatNGramLogitsProcessor(n)),
    ]
    if length >= len(sequence):  # transformers counts one token too many as necessary
        pairs.append(
            (on.bias(logits, ids, sequence, amount), theirs.SequenceBiasLogitsProcessor([[sequence, amount]]))
        )
    for ours, processor in pairs:
        assert torch.equal(ours, processor(ids, logits.clone())), processor
    counts = [[row.count(token) for token in range(shape[1])] for row in ids.tolist()]
    frequency = logits - penalty * torch.tensor(counts, dtype=torch.float32)
    torch.testing.assert_close(on.frequency_penalty(logits, ids, penalty), frequency)
    presence = logits - penalty * (torch.tensor(counts) > 0).float()
    torch.testing.assert_close(on.presence_penalty(logits, ids, penalty), presence)


@given(
    logits=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=50),
    degree=st.one_of(st.just(0.0), st.floats(1e-6, 1e6)),
    k=st.integers(0, 60),
    p=st.floats(1e-9, 1),
    share=st.floats(0, 0.999999),
)
def test_no_warper_leaves_nothing(logits: list[float], degree: float, k: int, p: float, share: float) -> None:
    row = torch.tensor(logits, dtype=torch.float64)
    before = row.clone()
    out = apply(row, Sampling(temperature=degree, top_k=k, top_p=p, min_p=share, seed=0))
    probs = logits_to_probs(out)
    assert torch.equal(row, before)
    assert not probs.isnan().any()
    assert float(probs.sum()) == pytest.approx(1)
    assert probs[out.argmax()] > 0
    # Dividing by the temperature can make two of the smallest numbers equal.
    assert math.isclose(float(row[out.argmax()]), float(row.max()), abs_tol=1e-300)


@given(
    p=st.floats(0.05, 0.99),
    spread=st.sampled_from([0.5, 3.0, 8.0]),
    coarse=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=30)
def test_top_p_of_a_large_vocabulary_is_that_of_the_sorted_one(
    p: float, spread: float, coarse: bool, seed: int
) -> None:
    logits = spread * torch.randn(3, 9000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if coarse:
        logits = logits.round(decimals=1)  # with many that are equal
    quick = on._top_p_of_best(logits, p)
    if quick is None:
        assert (on.top_p(logits, p) > -math.inf).sum(-1).max() >= 1000
        return
    probs, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    stays = torch.empty_like(order, dtype=torch.bool).scatter(-1, order, probs.cumsum(-1) - probs < p)
    assert torch.equal(quick > -math.inf, stays)

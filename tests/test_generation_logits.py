"""The filters against transformers' own, against tables worked out by hand, and by their properties."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import logits_process as theirs

from mygpt_cli.errors import UsageError
from mygpt_cli.generation.logits import chain, greedy, logits_to_probs, min_p, temperature, top_k, top_p
from mygpt_cli.generation.settings import Sampling

EXAMPLE = torch.tensor([2.0, 1.0, 0.0])


def apply(logits: Tensor, sampling: Sampling) -> Tensor:
    for _, function in chain(sampling):
        logits = function(logits)
    return logits


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
    for sampling in (Sampling(temperature=0, seed=0), Sampling(temperature=5, top_k=1, top_p=0.5, seed=0)):
        assert torch.equal(apply(logits, sampling), greedy(logits))


def test_the_chain_names_its_filters_in_order_and_leaves_out_what_does_nothing() -> None:
    everything = Sampling(temperature=0.7, top_k=3, top_p=0.9, min_p=0.1, seed=0)
    assert [name for name, _ in chain(everything)] == ["temperature", "top-k", "top-p", "min-p"]
    assert chain(Sampling(temperature=1, seed=0)) == []
    assert [name for name, _ in chain(Sampling(temperature=0, top_p=0.9, seed=0))] == ["greedy"]


shapes = st.tuples(st.integers(1, 4), st.integers(2, 300))
shares = st.floats(0.001, 0.999)


@settings(deadline=None)
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


@settings(deadline=None)
@given(
    shape=shapes,
    seed=st.integers(0, 2**31),
    degree=st.floats(0.05, 20),
    k=st.integers(0, 400),
    p=st.floats(0.01, 1),
    share=st.floats(0, 0.99),
)
def test_the_chain_agrees_with_transformers_generate(
    shape: tuple[int, int], seed: int, degree: float, k: int, p: float, share: float
) -> None:
    logits = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected: Any = theirs.TemperatureLogitsWarper(degree)(None, logits)
    if k:
        expected = theirs.TopKLogitsWarper(k)(None, expected)
    if p < 1:
        expected = theirs.TopPLogitsWarper(p)(None, expected)
    if share:
        expected = theirs.MinPLogitsWarper(share)(None, expected)
    sampling = Sampling(temperature=degree, top_k=k, top_p=p, min_p=share, seed=0)
    ours = apply(logits, sampling)
    if k == 1:  # greedy, which keeps one token where transformers' top-k keeps all that are equal
        expected = greedy(expected)
    assert torch.equal(ours.isneginf(), expected.isneginf())
    torch.testing.assert_close(logits_to_probs(ours), expected.softmax(-1), rtol=1e-12, atol=1e-15)


@settings(deadline=None)
@given(
    logits=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=50),
    degree=st.one_of(st.just(0.0), st.floats(1e-6, 1e6)),
    k=st.integers(0, 60),
    p=st.floats(1e-9, 1),
    share=st.floats(0, 0.999999),
)
def test_no_chain_leaves_nothing(logits: list[float], degree: float, k: int, p: float, share: float) -> None:
    row = torch.tensor(logits, dtype=torch.float64)
    before = row.clone()
    out = apply(row, Sampling(temperature=degree, top_k=k, top_p=p, min_p=share, seed=0))
    probs = logits_to_probs(out)
    assert torch.equal(row, before)
    assert not probs.isnan().any()
    assert float(probs.sum()) == pytest.approx(1)
    assert probs[out.argmax()] > 0
    assert math.isclose(float(row[out.argmax()]), float(row.max()))


def test_every_fault_of_the_settings_is_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        Sampling(
            temperature=-1,
            top_k=-2,
            top_p=0,
            min_p=1,
            seed=-3,
            max_new_tokens=0,
            num_samples=0,
            stop=("",),
        )
    flags = ("temperature", "top-k", "top-p", "min-p", "seed", "max-new-tokens", "num-samples", "stop")
    for flag in flags:
        assert f"--{flag} must" in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": 1e-300},
        {"top_p": 1.0001},
        {"top_p": math.nan},
        {"top_p": -0.5},
        {"min_p": math.nan},
        {"min_p": -0.1},
    ],
)
def test_numbers_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Sampling(seed=0, **values)  # type: ignore[arg-type]

"""What settings can be, what contradicts what, and the order of the filters."""

import math
from typing import Any

import pytest

from mygpt_cli.base.errors import UsageError
from mygpt_cli.config.knobs import knobs
from mygpt_cli.config.sampling import (
    FILTERS,
    Sampling,
    field_of,
    parse_bias,
    resolve,
    resolve_each,
)

EVERYTHING: dict[str, Any] = {
    "temperature": 0.7,
    "top_k": 3,
    "top_p": 0.9,
    "min_p": 0.1,
    "typical_p": 0.9,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "no_repeat_ngram": 3,
    "logit_bias": ("a=1",),
    "ban": ("x",),
    "min_new_tokens": 3,
    "ignore_end": True,
    "begin_with": "y",
}


def test_every_setting_is_described_and_every_filter_is_one() -> None:
    assert {field_of(name) for name in FILTERS} == set(EVERYTHING)
    for name, knob in knobs(Sampling).items():
        assert knob.help.endswith("."), name
        assert knob.group, name


def test_the_chain_is_in_order_and_leaves_out_what_does_nothing() -> None:
    assert Sampling(seed=0, **EVERYTHING).active == list(FILTERS)
    assert Sampling(seed=0).active == ["temperature"]
    assert Sampling(temperature=1, seed=0).active == []
    assert Sampling(beams=2, ban=("x",), seed=0).active == ["ban"]
    assert Sampling(temperature=0, top_p=0.9, ban=("x",), seed=0).active == ["ban", "greedy"]


def test_filters_reorders_the_chain() -> None:
    backwards = ",".join(reversed(FILTERS))
    assert Sampling(seed=0, filters=backwards, **EVERYTHING).active == list(reversed(FILTERS))
    assert Sampling(seed=0, min_p=0.1, filters="min-p, temperature").active == ["min-p", "temperature"]
    assert Sampling(seed=0, min_p=0.1, filters="min-p,top-k").active == ["min-p"]
    assert Sampling(seed=0, temperature=0, top_p=0.5, filters="top-p,temperature").active == [
        "top-p",
        "greedy",
    ]


@pytest.mark.parametrize(
    ("filters", "fault"),
    [
        ("top-q", "there is no filter 'top-q' (did you mean 'top-p'?)"),
        ("top-p,top-p", "names 'top-p' twice"),
        ("temperature", "--top-p is set, but --filters leaves it out"),
        (",", "there is no filter ''"),
    ],
)
def test_filters_that_cannot_be(filters: str, fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve({"seed": 0, "top_p": 0.5, "filters": filters})
    assert fault in caught.value.message


def test_a_filter_that_was_given_its_default_is_not_left_out_either() -> None:
    with pytest.raises(UsageError, match="--temperature is set, but --filters leaves it out"):
        resolve({"seed": 0, "temperature": 0.8, "top_k": 5, "filters": "top-k"})
    assert resolve({"seed": 0, "top_k": 5, "filters": "top-k"}).active == ["top-k"]


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        Sampling(
            temperature=-1,
            top_k=-2,
            top_p=0,
            min_p=1,
            typical_p=0,
            repetition_penalty=0,
            no_repeat_ngram=-1,
            seed=-3,
            max_new_tokens=0,
            num_samples=0,
            beams=0,
            stop=("",),
            ban=("",),
            window="third",
        )
    flags = [
        *("temperature", "top-k", "top-p", "min-p", "typical-p", "repetition-penalty", "no-repeat-ngram"),
        *("seed", "max-new-tokens", "num-samples", "beams", "stop", "ban", "window"),
    ]
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
        {"min_p": math.nan},
        {"typical_p": math.nan},
        {"repetition_penalty": -1.0},
        {"repetition_penalty": math.nan},
        {"frequency_penalty": math.inf},
        {"length_penalty": math.nan},
        {"min_new_tokens": 201},
        {"beams": 3, "num_samples": 4},
        {"ban": ("x",), "begin_with": "axe"},
        {"stop": ("\udcff",)},
        {"begin_with": "\ud800"},
        {"logit_bias": ("a",)},
        {"logit_bias": ("=1",)},
        {"logit_bias": ("a=inf",)},
        {"logit_bias": ("a=nan",)},
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Sampling(seed=0, **values)


def test_a_bias_is_for_a_token_or_a_text() -> None:
    assert parse_bias("15=2.5") == (15, 2.5)
    assert parse_bias(" cat=-1") == (" cat", -1.0)
    assert parse_bias("a=b=-inf") == ("a=b", -math.inf)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (
            {"beams": 5, "temperature": knobs(Sampling)["temperature"].given},
            "--temperature has no effect with --beams, which does not sample; remove one",
        ),
        (
            {"beams": 5, "top_k": 4, "min_p": 0.1},
            "--top-k and --min-p have no effect with --beams",
        ),
        ({"length_penalty": 2.0}, "--length-penalty has no effect without --beams"),
        ({"beams": 5, "speculate": True}, "--speculate has no effect with --beams"),
    ],
)
def test_what_was_given_can_contradict_itself(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve({"seed": 1, **given})
    assert fault in caught.value.message


def test_several_temperatures_make_several_settings() -> None:
    assert resolve_each({"seed": 1, "temperature": [0.5, 2.0], "top_k": 3}) == [
        Sampling(seed=1, temperature=0.5, top_k=3),
        Sampling(seed=1, temperature=2.0, top_k=3),
    ]
    assert resolve_each({"seed": 1}) == [Sampling(seed=1)]

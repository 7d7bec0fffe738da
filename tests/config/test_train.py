"""Settings: ranges, all faults at once, and the model that they make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.errors import UsageError
from mygpt_cli.config.checks import parse_duration
from mygpt_cli.config.knobs import knobs
from mygpt_cli.config.train import (
    TrainConfig,
    setting_faults,
)
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.config import shape_faults
from tests.conftest import tiny_config


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(UsageError) as fault:
        tiny_config(width=10, heads=4, dropout=1.5, optimizer="adamm", time="5m")
    message = fault.value.message
    assert "--dropout must be below 1" in message
    assert "'adamm' (did you mean 'adamw'?)" in message
    assert message.startswith("2 things are wrong")  # ranges first: combinations of wrong values mean nothing
    with pytest.raises(UsageError, match="2 things are wrong") as fault:
        tiny_config(width=10, heads=4, time="5m")
    assert "--time and --steps cannot be combined" in fault.value.message
    assert "width 10 is not divisible by 4 heads (width 8 is)" in fault.value.message


def test_members_need_steps_and_begin_from_nothing() -> None:
    with pytest.raises(
        UsageError, match="--members 3 needs at least 3 steps, one for each model: --steps is 2"
    ):
        tiny_config(members=3, steps=2)
    with pytest.raises(UsageError, match="--members and --init-from cannot be combined"):
        tiny_config(members=2, init_from="folder")
    assert tiny_config(members=3, steps=3).members == 3


def test_a_sharded_run_trains_one_model_without_compiled_code() -> None:
    with pytest.raises(UsageError) as fault:
        tiny_config(shard=True, members=3, compile="on")
    assert "--shard and --members 3 cannot be combined: a sharded run trains a single" in fault.value.message
    assert "--shard and --compile on cannot be combined: a sharded model is trained" in fault.value.message
    assert tiny_config(shard=True).shard


def test_what_nobody_can_mean_is_a_fault_and_no_crash() -> None:
    assert setting_faults({"members": None, "arch": None, "steps": 10}) == []  # as if it were not there
    (fault,) = setting_faults({"steps": 10**400})
    assert fault.startswith("--steps must be at most 1e+09, not 1000")
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration("9" * 400)
    assert parse_duration("9" * 15) == 999_999_999_999_999.0


def test_an_unknown_setting_gets_a_suggestion() -> None:
    assert setting_faults({"lauers": 3}) == ["unknown setting --lauers (did you mean 'layers'?)"]


@pytest.mark.parametrize("value", ["3", True, 3.5, None])
def test_types_are_checked(value: object) -> None:
    assert bool(setting_faults({"layers": value})) == (value is not None)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("layers", "12", 12),
        ("tokens", "20M", 20_000_000),
        ("steps", "1.5k", 1500),
        ("lr", "3e-4", 3e-4),
        ("bias", "no", False),
        ("tokenizer", "char", "char"),
    ],
)
def test_parse_setting(name: str, text: str, value: object) -> None:
    assert knobs(TrainConfig)[name].parse(text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("layers", "four"),
        ("steps", "1.5"),
        ("steps", "k"),
        ("steps", f"{'9' * 400}k"),
        ("lr", "1k"),
        ("bias", "maybe"),
    ],
)
def test_parse_setting_refuses(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}'"):
        knobs(TrainConfig)[name].parse(text)


def test_every_setting_is_described() -> None:
    for name, knob in knobs(TrainConfig).items():
        assert knob.help.endswith("."), name
        assert knob.group, name
        assert knob.kind in (int, float, bool, str, tuple), name


@given(st.booleans(), st.integers(1, 64), st.integers(1, 512))
def test_a_refused_shape_names_one_that_fits(even: bool, heads: int, width: int) -> None:
    faults = shape_faults(width, heads, even=even)
    assert bool(faults) == (width % (2 * heads if even else heads) != 0)
    for fault in faults:
        named = int(fault.rsplit("width ", 1)[1].split(" ")[0])
        assert not shape_faults(named, heads, even=even)


def test_what_is_only_fine_tuned_is_offered_to_nobody_who_begins_from_a_text() -> None:
    assert knobs(TrainConfig)["arch"].choices == ("qwen3", "llama", "gpt2", "nanochat")
    (fault,) = setting_faults({"arch": "mistral"})
    assert fault == (
        "--arch mistral can only be fine-tuned, with --init-from; "
        "a new model can be qwen3, llama, gpt2, nanochat"
    )
    assert setting_faults({"arch": "mistral", "init_from": "folder"}) == []
    (fault,) = setting_faults({"arch": "misttral"})
    assert "must be one of qwen3, llama, gpt2, nanochat" in fault
    assert setting_faults({"arch": ["mistral"]}) == ["--arch must be text, not ['mistral']"]
    # Heads of a width of their own need not share the model's.
    assert setting_faults({"arch": "qwen3", "init_from": "folder", "width": 30, "heads": 4}) == []
    assert setting_faults({"arch": "qwen3", "width": 30, "heads": 4}) != []


@pytest.mark.parametrize(
    ("arch", "context", "reads", "window"),
    [("qwen3", 64, 512, 64), ("llama", 64, 64, 0), ("qwen3", 2**17, 2**18, 2**17), ("qwen3", 2, 16, 2)],
)
def test_a_model_reads_on_where_attention_looks_back_as_far_as_in_training(
    arch: str, context: int, reads: int, window: int
) -> None:
    config = tiny_config(arch=arch, context=context).model(65)
    assert (config.context, config.window) == (reads, window)
    assert [config.window_of(layer) for layer in range(config.layers)] == [window] * config.layers
    assert config.within_windows == context


def test_model_shape_faults() -> None:
    with pytest.raises(UsageError, match="even head width"):
        configure("nanochat", vocab_size=9, layers=1, heads=2, width=6, context=4)
    with pytest.raises(UsageError, match="did you mean 'gpt2'"):
        configure("gpt-2", vocab_size=9, layers=1, heads=2, width=6, context=4)
    with pytest.raises(UsageError, match="cannot share 3 key/value heads"):
        configure("nanochat", vocab_size=9, layers=1, heads=4, kv_heads=3, width=8, context=4)
    with pytest.raises(UsageError, match="more than 16,777,216"):
        configure("nanochat", vocab_size=9, layers=1, heads=1, width=1000, context=2**18)
    with pytest.raises(UsageError, match="layers must be at least 1"):
        configure("gpt2", vocab_size=9, layers=0, heads=2, width=6, context=4)

"""What is chosen when the user does not say, and what is respected when he does."""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.errors import TextError
from mygpt_cli.config.course import MOST_STEPS
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.train import TrainConfig, as_settings
from mygpt_cli.model.architectures import TRAINABLE
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from mygpt_cli.training.sizing import plan
from tests.helpers.speeds import larger_is_slower, slow

CHARACTERS = train_tokenizer("char", ["ab"])


def test_every_setting_is_chosen(tiny_dataset: Dataset) -> None:
    chosen = plan({}, tiny_dataset, slow)
    assert chosen.seconds == 300
    assert chosen.reasons["time"] == "the default budget"
    config = chosen.config(1000)
    assert config.model(65).head_width % 2 == 0


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "layers": st.integers(1, 12),
            "heads": st.integers(1, 12),
            "context": st.integers(2, 100),
            "batch_size": st.integers(1, 100),
            "arch": st.sampled_from(TRAINABLE),
            "optimizer": st.sampled_from(["adamw", "muon"]),
            "lr": st.floats(1e-5, 1),
            "steps": st.integers(1, 10_000),
            "eval_every": st.integers(1, 100),
        },
    )
)
def test_what_the_user_sets_is_respected(settings: Settings) -> None:
    tokens = np.zeros(5000, dtype=np.uint8)
    dataset = Dataset(tokens, tokens, CHARACTERS, 5000, 5000, 5000, 5000, "")
    chosen = plan(settings, dataset, slow)
    config = chosen.config(chosen.steps or 50)
    assert {name: getattr(config, name) for name in settings} == settings
    config.model(300)


def test_what_nobody_set_has_a_reason_and_what_somebody_set_has_none(tiny_dataset: Dataset) -> None:
    free = plan({}, tiny_dataset, slow)
    assert set(free.reasons) >= {"layers", "width", "heads", "dropout", "context", "batch_size", "time"}
    settings = as_settings({name: getattr(free.config(100), name) for name in free.reasons if name != "time"})
    assert not plan(settings, tiny_dataset, slow).reasons
    assert "layers" not in plan({"layers": 3}, tiny_dataset, slow).reasons
    assert free.reasons.keys() >= {"lr", "muon_lr", "schedule", "warmup", "decay_fraction"}
    plain = plan({"optimizer": "adamw", "schedule": "constant"}, tiny_dataset, slow).reasons
    assert not {"muon_lr", "schedule", "warmup", "decay_fraction"} & plain.keys()


@pytest.mark.parametrize(
    ("settings", "tokens", "reason"),
    [
        ({"steps": 300}, 10**7, "the largest model that 300 steps can train well"),
        ({"time": "5m"}, 10**5, "a larger model would be no better for this text"),
        ({"time": "2s"}, 10**5, "the smallest, because 2s is short"),
        ({"epochs": 1000.0}, 10**8, "the largest that is chosen automatically"),
    ],
)
def test_the_reason_of_a_shape_is_what_bounds_it(settings: Settings, tokens: int, reason: str) -> None:
    ids = np.zeros(tokens, dtype=np.uint8)
    dataset = Dataset(ids, ids, CHARACTERS, tokens, tokens, tokens, tokens, "")
    chosen = plan(settings, dataset, slow)
    assert chosen.reasons["layers"] == chosen.reasons["width"] == reason


@pytest.mark.parametrize(
    ("settings", "members"),
    [
        ({"time": "10s"}, 1),
        ({"time": "20s"}, 2),
        ({"time": "1m"}, 3),
        ({"time": "90s"}, 4),
        ({"time": "1h"}, 6),
        ({"time": "1h", "members": 1}, 1),
        ({"time": "1h", "arch": "gpt2"}, 6),
        ({"steps": 100_000}, 1),
        ({"time": "1h", "init_from": "folder", "arch": "nanochat", "layers": 2, "heads": 2, "width": 64}, 1),
    ],
)
def test_members_are_for_text_that_one_model_would_see_too_often(settings: Settings, members: int) -> None:
    ids = np.zeros(60_000, dtype=np.uint8)
    dataset = Dataset(ids, ids, CHARACTERS, 60_000, 60_000, 60_000, 60_000, "")
    chosen = plan(settings, dataset, slow)
    config = chosen.config(9000)
    assert config.members == members
    if members > 1:
        assert chosen.reasons["members"] == "better than one model that sees the text that often"
        assert config.patience == 0
        alone = plan({**settings, "members": 1}, dataset, slow).config(9000)
        assert config.dropout <= alone.dropout  # each sees the text less often
        assert config.warmup < alone.warmup


def of_vocabulary(size: int) -> Dataset:
    ids = np.zeros(10**6, dtype=np.uint16)
    tokenizer = cast(Tokenizer, SimpleNamespace(vocab_size=size, ranks={}, kind="char"))
    return Dataset(ids, ids, tokenizer, 10**6, 10**6, 10**6, 10**6, "")


@pytest.mark.parametrize("tokens", [10**6, 6 * 10**6, 36 * 10**6])
def test_a_model_sees_enough_tokens_for_its_blocks_and_its_embedding(tokens: int) -> None:
    sizes = []
    for vocabulary in (64, 4096, 8192, 50_257):
        config = plan({"tokens": tokens}, of_vocabulary(vocabulary), slow).config(tokens // 2048)
        blocks, embedding = 12 * config.layers * config.width**2, min(vocabulary, 8192) * config.width
        assert tokens >= 1.35 * (blocks + embedding)
        sizes.append(blocks)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == sizes[-2]  # the rarest tokens hardly learn


def test_a_large_vocabulary_takes_time_from_each_shape() -> None:
    """So that none is chosen that sees fewer tokens than it needs."""
    dataset, speed = of_vocabulary(8192), partial(larger_is_slower, vocabulary=8192)
    for seconds in range(90, 900, 20):
        config = plan({"time": f"{seconds}s"}, dataset, speed).config(10**4)
        needed = 1.35 * (12 * config.layers * config.width**2 + 8192 * config.width)
        assert 0.92 * seconds / speed(config) >= needed


def test_a_larger_model_needs_much_new_text_or_to_see_it_again_where_time_is_short() -> None:
    def chosen(tokens: int, budget: Settings) -> TrainConfig:
        ids = np.zeros(tokens, dtype=np.uint8)
        dataset = Dataset(ids, ids, CHARACTERS, 10**7, 10**7, 10**7, 10**7, "")
        return plan({"members": 1, **budget}, dataset, larger_is_slower).config(10**5)

    def seen(config: TrainConfig) -> float:
        return 300 / larger_is_slower(config)

    new, again = chosen(10**7, {"time": "5m"}), chosen(3 * 10**5, {"time": "5m"})
    assert new.width < again.width
    assert seen(new) >= 6.0 * 12 * new.layers * new.width**2
    assert 6.0 * 12 * again.layers * again.width**2 > seen(again) >= 3.5 * 3 * 10**5
    # With as many steps as that, a smaller model would see no more tokens.
    assert chosen(10**7, {"tokens": int(seen(new))}).width > new.width


def test_time_already_spent_does_not_count_for_the_shape() -> None:
    ids = np.zeros(10**6, dtype=np.uint8)
    dataset = Dataset(ids, ids, CHARACTERS, 10**6, 10**6, 10**6, 10**6, "")
    late, early = (
        plan({"time": f"{seconds}s"}, dataset, slow, partial(float, spent))
        for seconds, spent in ((900, 600), (300, 0))
    )
    assert late.config(100) == early.config(100)
    assert plan({"time": "900s"}, dataset, slow).config(100).width > late.config(100).width
    assert plan({"time": "9s"}, dataset, slow, partial(float, 10)).config(100).layers == 2


@pytest.mark.parametrize(
    ("seconds", "shape", "limit"), [(6, (2, 64), 0.1), (30, (4, 128), 0.5), (600, (4, 128), 1.0)]
)
def test_measuring_the_speed_takes_a_sixtieth_of_the_time(
    tiny_dataset: Dataset, seconds: int, shape: tuple[int, int], limit: float
) -> None:
    measured = []

    def speed(config: TrainConfig, limit: float) -> float:
        measured.append((config.layers, config.width, limit))
        return larger_is_slower(config)

    plan({"time": f"{seconds}s"}, tiny_dataset, speed)
    assert measured == [pytest.approx((*shape, limit))]


def test_a_shape_for_which_the_time_is_short_is_trained_once() -> None:
    ids = np.zeros(30_000, dtype=np.uint8)
    dataset = Dataset(ids, ids, CHARACTERS, 10**6, 10**6, 10**6, 10**6, "")
    large: Settings = {"layers": 6, "width": 384}
    assert plan({"time": "3h"}, dataset, larger_is_slower).config(9000).members > 1
    assert plan({"time": "3h", **large}, dataset, larger_is_slower).config(9000).members == 1


def test_a_budget_that_a_text_cannot_use_is_not_used() -> None:
    ids = np.zeros(60_000, dtype=np.uint8)
    dataset = Dataset(ids, ids, CHARACTERS, 60_000, 60_000, 60_000, 60_000, "")
    chosen = plan({"time": "10h"}, dataset, slow)
    assert chosen.seconds == 10 * 3600
    assert chosen.most_steps == math.ceil(6 * 12 * 60_000 / (7 * 256))
    assert chosen.reasons["steps"] == "more passes over this text would make the models no better"
    assert chosen.notes == (f"training ends before 10h: {chosen.reasons['steps']}",)
    used = plan({"time": "10m"}, dataset, slow)  # enough for 5.5 million tokens: 4.3 million are used
    assert used.most_steps == chosen.most_steps
    assert used.config(3000) == chosen.config(3000)  # as much regularisation, too
    for settings in ({"time": "3m"}, {"time": "10h", "members": 6}):
        all_of_it = plan(cast(Settings, settings), dataset, slow)
        assert all_of_it.notes == ()
        assert all_of_it.most_steps == MOST_STEPS
    # A text so small that the fewest steps of a model see it more often than that.
    tiny = Dataset(ids[:300], ids, CHARACTERS, 300, 60_000, 300, 60_000, "")
    assert plan({"time": "10h"}, tiny, slow).most_steps == 6 * 50


def test_time_to_spare_goes_into_larger_models() -> None:
    ids = np.zeros(60_000, dtype=np.uint8)
    dataset = Dataset(ids, ids, CHARACTERS, 90_000, 90_000, 60_000, 60_000, "")
    plans = [plan({"time": f"{minutes}m"}, dataset, larger_is_slower) for minutes in range(1, 60)]
    sizes = [12 * one.config(9000).layers * one.config(9000).width ** 2 for one in plans]
    assert sizes == sorted(sizes)
    assert {size for size in sizes if size > 5 * 90_000} == {12 * 4 * 128**2}  # 8.7 parameters per byte
    for one, size in zip(plans, sizes, strict=True):
        if size > 5 * 90_000:
            assert one.config(9000).members == 6
            assert one.most_steps == math.ceil(6 * 12 * 60_000 / (7 * 256))
    alone = plan({"time": "59m", "members": 1}, dataset, larger_is_slower).config(9000)
    assert 12 * alone.layers * alone.width**2 <= 5 * 90_000


@pytest.mark.parametrize("members", [2, 6])
def test_models_that_are_asked_for_have_the_shape_that_they_would_be_given(members: int) -> None:
    ids = np.zeros(60_000, dtype=np.uint8)
    dataset = Dataset(ids, ids, CHARACTERS, 60_000, 60_000, 60_000, 60_000, "")
    seconds = next(s for s in range(10, 1000) if plan_of(dataset, f"{s}s").members == members)
    assert plan_of(dataset, f"{seconds}s") == plan_of(dataset, f"{seconds}s", members=members)
    # Of a text that there is no time to read six times for each, each needs as many tokens as a model alone.
    large = Dataset(np.zeros(10**8, dtype=np.uint8), ids, CHARACTERS, 10**8, 10**8, 10**8, 10**8, "")
    alone = plan_of(large, "5m")
    asked = plan_of(large, f"{5 * members}m", members=members)
    assert (asked.layers, asked.width) == (alone.layers, alone.width)


def plan_of(dataset: Dataset, time: str, **settings: int) -> TrainConfig:
    return plan(cast(Settings, {"time": time, **settings}), dataset, larger_is_slower).config(1000)


def test_a_text_that_is_seen_more_often_is_held_against_more(tiny_dataset: Dataset) -> None:
    """By dropout, by tokens that are split, and by the weight decay beside Muon."""
    ids = np.zeros(60_000, dtype=np.uint8)
    dataset = Dataset(ids, ids, tiny_dataset.tokenizer, 60_000, 60_000, 60_000, 60_000, "")
    plans = [plan({"epochs": epochs}, dataset, slow).config(500) for epochs in (2.0, 30.0, 45.0, 200.0)]
    assert [config.weight_decay for config in plans] == [0.1, 0.1, 0.15, 0.2]
    assert [config.muon_lr for config in plans] == [0.03, 0.03, 0.045, 0.06]
    for less, more in pairwise(plans):
        assert less.dropout <= more.dropout
        assert less.bpe_dropout <= more.bpe_dropout
    assert plan({"epochs": 60.0, "optimizer": "adamw"}, dataset, slow).config(500).weight_decay == 0.1
    assert plan({"epochs": 60.0, "weight_decay": 0.05}, dataset, slow).config(500).weight_decay == 0.05


def test_intervals_are_chosen_anew_for_another_budget_unless_somebody_set_them(tiny_dataset: Dataset) -> None:
    first = plan({"steps": 100, "log_every": 7}, tiny_dataset, slow).config(100)
    kept: Settings = {"steps": 1000, "log_every": first.log_every}
    kept |= {"eval_every": first.eval_every, "save_every": first.save_every}
    longer = plan(kept, tiny_dataset, slow).with_new_intervals(100, {"steps"}).config(1000)
    assert longer.log_every == 7
    assert first.save_every == 10
    assert longer.save_every == 100
    assert longer.eval_every == plan({"steps": 1000}, tiny_dataset, slow).config(1000).eval_every
    same = plan(kept, tiny_dataset, slow).with_new_intervals(100, {"save_every"})
    assert same.config(1000).save_every == first.save_every


def test_epochs_become_steps(tiny_dataset: Dataset) -> None:
    chosen = plan({"epochs": 3.0, "batch_size": 4, "accumulation": 2, "context": 16}, tiny_dataset, slow)
    assert chosen.steps == round(3 * len(tiny_dataset.train) / (4 * 2 * 16))


def test_tokens_become_steps(tiny_dataset: Dataset) -> None:
    chosen = plan({"tokens": 10_000, "batch_size": 4, "accumulation": 2, "context": 16}, tiny_dataset, slow)
    assert chosen.steps == round(10_000 / (4 * 2 * 16))
    assert plan({"tokens": 1}, tiny_dataset, slow).steps == 1
    assert "because 10,000 tokens is short" in plan({"tokens": 10_000}, tiny_dataset, slow).reasons["width"]


@pytest.mark.parametrize(
    ("tokens", "batch"), [(10_000, 1), (60_000, 2), (250_000, 4), (10**6, 8), (9 * 10**6, 8)]
)
def test_a_step_has_twice_the_root_of_few_tokens(tokens: int, batch: int) -> None:
    dataset = of_vocabulary(1024)
    chosen = plan({"tokens": tokens}, dataset, slow)
    config = chosen.config(chosen.steps or 0)
    assert (config.batch_size, config.context) == (batch, 256)
    assert chosen.steps == round(tokens / (batch * 256))
    reasons = ("small steps, because there are few tokens", "2,048 tokens in each step")
    assert chosen.reasons["batch_size"] == reasons[tokens > 2**20]
    # Each of several models sees its part of them.
    assert plan({"tokens": 2 * tokens, "members": 2}, dataset, slow).config(100).batch_size == batch
    as_often = plan({"epochs": tokens / 10**6}, dataset, slow)
    assert (as_often.steps, as_often.config(1).batch_size) == (chosen.steps, batch)


def test_a_step_has_2048_tokens_where_the_steps_are_given_or_a_model_is() -> None:
    start: Settings = {"init_from": "folder", "arch": "nanochat", "layers": 2, "heads": 2, "width": 64}
    for settings in ({"steps": 30}, {"steps": 9000}, {"time": "2s", **start}, {"time": "9h", **start}):
        chosen = plan(cast(Settings, settings), of_vocabulary(1024), slow)
        assert chosen.config(30).batch_size == 2048 / 256
        assert chosen.reasons["batch_size"] == "2,048 tokens in each step"


def test_a_short_run_is_saved_at_its_end() -> None:
    for seconds, saves in ((19, 1), (20, 10)):
        config = plan({"time": f"{seconds}s"}, of_vocabulary(1024), slow).config(500)
        assert math.ceil(500 / config.save_every) == saves


def test_a_step_has_no_more_than_the_text() -> None:
    ids = np.zeros(1900, dtype=np.uint8)
    dataset = Dataset(ids, ids, CHARACTERS, 1900, 1900, 1900, 1900, "")
    for settings in ({"steps": 30}, {"time": "9h", "members": 1}, {"tokens": 10**8}):
        chosen = plan(cast(Settings, settings), dataset, slow)
        assert chosen.config(30).batch_size == 1900 // 256
        assert chosen.reasons["batch_size"] == "the whole text in each step"


def test_a_text_shorter_than_the_context_shrinks_it(tiny_dataset: Dataset) -> None:
    short = replace(tiny_dataset, train=tiny_dataset.train[:20])
    chosen = plan({"context": 64}, short, slow)
    assert chosen.config(10).context == 19
    assert "--context is 19 instead of 64" in chosen.notes[0]
    with pytest.raises(TextError, match="too short"):
        plan({}, replace(tiny_dataset, train=tiny_dataset.train[:2]), slow)


def test_a_vocabulary_larger_than_can_be_learned_can_be_fine_tuned() -> None:
    """As that of Qwen2 and Qwen3, with 151,936 tokens."""
    ids, size = np.zeros(1000, dtype=np.uint32), 151_936
    ranks = {bytes([byte]): byte for byte in range(256)}
    tokenizer = cast(Tokenizer, SimpleNamespace(vocab_size=size, ranks=ranks, kind="tokenizer.json"))
    dataset = Dataset(ids, ids, tokenizer, 4000, 4000, 4000, 4000, "")
    shape: Settings = {"arch": "qwen3", "layers": 2, "heads": 2, "width": 64}
    settings: Settings = {**shape, "init_from": "folder", "optimizer": "adamw", "steps": 10}
    config = plan(settings, dataset, lambda config, limit: 2e-5).config(10)
    assert config.init_from == "folder"
    assert config.model(size).vocab_size == size


@pytest.mark.parametrize("million", [0.05, 1, 20, 1000])
def test_more_time_never_makes_a_smaller_model_nor_more_text_more_dropout(million: float) -> None:
    def chosen(seconds: int, tokens: int) -> TrainConfig:
        ids = np.zeros(tokens, dtype=np.uint8)
        dataset = Dataset(ids, ids, CHARACTERS, tokens, tokens, tokens, tokens, "")
        return plan({"time": f"{seconds}s"}, dataset, lambda config, limit: 2e-5).config(100)

    tokens = int(million * 1e6)
    configs = [chosen(seconds, tokens) for seconds in (3, 10, 30, 50, 100, 600, 3600, 36000)]
    sizes = [c.layers * c.width**2 for c in configs]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > (1 if million < 1 else 3)  # a small text keeps the model small
    texts = [chosen(600, size) for size in (10_000, 100_000, 1_000_000, 10_000_000)]
    dropouts = [c.dropout / min(1.0, c.width / 128) for c in texts]  # narrow models have less
    assert dropouts == sorted(dropouts, reverse=True)
    assert dropouts[-1] == 0.0


def test_a_shape_that_is_given_is_regularised_as_if_it_were_chosen() -> None:
    ids = np.zeros(300_000, dtype=np.uint16)
    dataset = Dataset(ids, ids, CHARACTERS, 10**6, 10**6, 10**6, 10**6, "")

    chosen = plan({"time": "2000s", "members": 1}, dataset, larger_is_slower).config(100)
    assert 0 < chosen.dropout < 0.3
    given: Settings = {"layers": chosen.layers, "width": chosen.width, "members": 1}
    config = plan({"time": "2000s", **given}, dataset, larger_is_slower).config(100)
    assert config.dropout == chosen.dropout

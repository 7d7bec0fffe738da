"""From settings and a text to a trainer."""

import time
from pathlib import Path

import pytest
import torch

from mygpt_cli.base.errors import ResourceError
from mygpt_cli.config.settings import Settings
from mygpt_cli.text.corpus import Corpus, open_corpus
from mygpt_cli.tokens.patterns import LLAMA3_PATTERN, QWEN2_PATTERN, SPLIT_PATTERN
from mygpt_cli.tokens.tokenizer import BytePairTokenizer
from mygpt_cli.training import preparation
from mygpt_cli.training.preparation import Preparation

SMALL: Settings = {"layers": 1, "heads": 1, "width": 16, "context": 16, "tokenizer": "char"}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(200)), encoding="utf-8")
    return open_corpus([str(path)])


def prepare(corpus: Corpus, settings: Settings) -> Preparation:
    return Preparation(SMALL | settings, corpus, lambda what, share: None)


def test_the_same_settings_begin_with_the_same_weights(corpus: Corpus) -> None:
    trainers = []
    for seed in (1, 1, 2):
        prepared = prepare(corpus, {"steps": 5, "seed": seed})
        trainers.append(prepared.new_trainer(prepared.configuration(prepared.plan(), time.perf_counter())))
    first, second, other = (t.model.embedding for t in trainers)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("arch", "pattern"), [("nanochat", SPLIT_PATTERN), ("llama", LLAMA3_PATTERN), ("qwen3", QWEN2_PATTERN)]
)
def test_byte_pairs_are_learned_from_text_split_as_the_architecture_does(
    corpus: Corpus, arch: str, pattern: str
) -> None:
    prepared = prepare(corpus, {"steps": 1, "arch": arch, "tokenizer": "bpe", "vocab_size": 260})
    tokenizer = prepared.new_trainer(
        prepared.configuration(prepared.plan(), time.perf_counter())
    ).dataset.tokenizer
    assert isinstance(tokenizer, BytePairTokenizer)
    assert tokenizer.pattern == pattern


def test_the_shape_suits_the_time_that_is_left(corpus: Corpus) -> None:
    settings: Settings = {"tokenizer": "char", "context": 16, "time": "10m"}
    prepared = Preparation(settings, corpus, lambda what, share: None)
    assert prepared.plan().settings["width"] == 96
    assert prepared.plan(time.perf_counter() - 599.9).settings["width"] == 64


def test_a_step_that_memory_does_not_suffice_for_is_taken_in_parts(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "total_memory", lambda device: 500_000)
    budgets: list[Settings] = [{"steps": 5}, {"time": "20s"}]
    for budget in budgets:
        prepared = prepare(corpus, {"batch_size": 64, "members": 1, **budget})
        trainer = prepared.new_trainer(prepared.configuration(prepared.plan(), time.perf_counter()))
        config = trainer.config
        assert config.batch_size < 64
        assert config.batch_size * config.accumulation == 64
        said = f"micro-batches of {config.batch_size} sequences"
        assert sum(said in note for note in prepared.notes + trainer.notes) == 1


@pytest.mark.parametrize("budget", [{"steps": 5}, {"time": "20s"}])
def test_a_model_larger_than_memory_is_not_begun(
    budget: Settings, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "total_memory", lambda device: 10_000)
    monkeypatch.setattr(preparation, "GPT", lambda config: pytest.fail("memory was taken"))
    prepared = prepare(corpus, budget)
    with pytest.raises(ResourceError, match="training this model takes about"):
        prepared.new_trainer(prepared.configuration(prepared.plan(), time.perf_counter()))


@pytest.mark.parametrize(("characters", "warned"), [(24, True), (9_000, True), (20_000, False)])
def test_a_text_too_small_for_words_is_told(characters: int, warned: bool, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(map(str, range(characters)))[:characters], encoding="utf-8")
    notes = prepare(open_corpus([str(path)]), {"steps": 5, "context": 2}).notes
    assert any("too few to learn words" in note for note in notes) is warned
    assert all("Words take about 10,000 characters, sentences 100,000" in note for note in notes)


def test_a_step_takes_a_small_text_once(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    for characters, tokens in ((24, 20), (1000, 899), (20_000, 2048)):
        path.write_text("abcdefghi " * (characters // 10) + "abcd" * (characters == 24), encoding="utf-8")
        prepared = Preparation(
            {"tokenizer": "char", "steps": 5}, open_corpus([str(path)]), lambda what, share: None
        )
        config = prepared.plan().config(5)
        assert config.batch_size * config.context <= max(tokens, config.context)
        assert (config.batch_size + 1) * config.context > tokens

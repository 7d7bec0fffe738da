"""What training begins with, against a singular value decomposition and against the text."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.processes import Processes
from mygpt_cli.model.gpt import GPT
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens.dataset import Dataset, prepare
from mygpt_cli.training import fresh_weights
from mygpt_cli.training.fresh_weights import NEAR, UNSEEN, FreshWeights, count_neighbours
from tests.conftest import tiny_config
from tests.helpers.trainers import new_trainer


def test_the_features_are_those_of_a_singular_value_decomposition(tiny_dataset: Dataset) -> None:
    """Of the whole matrix, put together cell by cell from its definition."""
    tokens, size = np.asarray(tiny_dataset.train), tiny_dataset.tokenizer.vocab_size
    shares = (np.bincount(tokens, minlength=size) + 0.5) / (len(tokens) + 0.5 * size)
    views = []
    for distances in ([1], NEAR):
        counts = np.zeros((size, size))
        for distance in distances:
            np.add.at(counts, (tokens[:-distance], tokens[distance:]), 1)
        more = np.log1p(counts / (UNSEEN * shares)) * np.sqrt(np.outer(shares, shares))
        views += [more, more.T]
    left, strengths, _ = np.linalg.svd(np.concatenate(views, axis=1))
    found = count_neighbours(tokens, size)
    assert np.allclose(found.strengths.numpy(), strengths, atol=1e-4)
    features = found.features.numpy() * np.sqrt(shares)[:, None]
    strong = strengths > 0.1
    assert np.allclose(np.abs((features.T @ left).diagonal())[strong], 1.0, atol=1e-3)
    following = views[0].T @ features / np.sqrt(shares)[:, None]
    assert np.allclose(found.following.numpy(), following, atol=1e-3)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(5, 200))
def test_any_text_gives_numbers(tokens: list[int], size: int) -> None:
    """However few its tokens are, and however many of the vocabulary it does not have."""
    found = count_neighbours(np.array(tokens, dtype=np.uint16), size)
    assert all(part.isfinite().all() for part in vars(found).values())
    assert (found.strengths.diff() <= 1e-6).all()


def test_rarer_tokens_are_not_counted(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are have the features that they would have in a text without the others."""
    monkeypatch.setattr(fresh_weights, "MOST_KINDS", 10)
    tokens, size = np.asarray(tiny_dataset.train), tiny_dataset.tokenizer.vocab_size
    found = count_neighbours(tokens, size)
    frequent = set(np.argsort(-np.bincount(tokens, minlength=size), kind="stable")[:10].tolist())
    for part in (found.features, found.following):
        assert part.size(1) == 10
        assert set(part.any(dim=1).nonzero().flatten().tolist()) == frequent


@pytest.mark.parametrize("arch", ["qwen3", "nanochat", "llama"])
def test_a_model_knows_something_before_its_first_step(tiny_dataset: Dataset, arch: str) -> None:
    """More than which tokens are frequent; and each token's vector is as long as a random one."""
    config = tiny_config(arch=arch, width=64, heads=2)
    trainer = new_trainer(config, tiny_dataset)
    FreshWeights(tiny_dataset, Processes()).draw(trainer.model, config.seed)
    loss = trainer.validation_loss(tiny_dataset.val) / (len(tiny_dataset.val) - 1)
    counts = np.bincount(tiny_dataset.train, minlength=tiny_dataset.tokenizer.vocab_size) + 1.0
    of_frequencies = -np.log((counts / counts.sum())[np.asarray(tiny_dataset.val)]).mean()
    assert loss < of_frequencies < math.log(tiny_dataset.tokenizer.vocab_size)
    squares = trainer.model.embedding.square().mean(dim=1)
    assert torch.allclose(squares, torch.ones_like(squares), atol=1e-4)


def test_characters_that_stand_nowhere_else_make_no_model_sure(tmp_path: Path) -> None:
    """A text with a row of them has features of no strength, which count for nothing."""
    row = "".join(map(chr, range(0x4E00, 0x4E1E)))
    text = "the cat sat on the mat, and the dog saw that it did. " * 500
    path = tmp_path / "row.txt"
    path.write_text(text + row + text, encoding="utf-8")
    corpus = open_corpus([str(path)])
    dataset = prepare(corpus, tokenizer="char", cache=tmp_path)
    trainer = new_trainer(tiny_config(arch="qwen3", width=128, heads=2), dataset)
    FreshWeights(dataset, Processes()).draw(trainer.model, 1)
    loss = trainer.validation_loss(dataset.val) / (len(dataset.val) - 1)
    assert loss < math.log(dataset.tokenizer.vocab_size)
    assert trainer.model.head is not None
    assert trainer.model.head.weight.abs().max() < 2.0


def test_each_model_of_a_run_is_drawn_anew(tiny_dataset: Dataset) -> None:
    """From its seed and its number."""
    config = tiny_config(arch="qwen3")
    fresh = FreshWeights(tiny_dataset, Processes())

    def drawn(seed: int, stage: int) -> torch.Tensor:
        model = GPT(config.model(tiny_dataset.tokenizer.vocab_size))
        fresh.draw(model, seed, stage)
        return model.embedding.detach()

    assert torch.equal(drawn(1, 0), drawn(1, 0))
    assert not torch.equal(drawn(1, 0), drawn(1, 1))
    assert not torch.equal(drawn(1, 0), drawn(2, 0))


def test_an_embedding_that_is_the_head_as_well_is_random(tiny_dataset: Dataset) -> None:
    """As the architecture draws it."""
    config = tiny_config(arch="gpt2", optimizer="adamw")
    fresh = FreshWeights(tiny_dataset, Processes())
    model = GPT(config.model(tiny_dataset.tokenizer.vocab_size))
    fresh.draw(model, 1)
    assert model.embedding.std() < 0.1

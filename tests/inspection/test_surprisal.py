"""How surprised a model is: by hand, by the trainer, and past the edges of windows."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mygpt_cli.base.errors import MygptError, TextError
from mygpt_cli.inspection.surprisal import Surprisal, encode, surprisal
from mygpt_cli.text.corpus import open_text
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.trainer import Trainer
from tests.conftest import tiny_config
from tests.helpers.standins import byte_tokenizer, random_model


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_every_token_by_hand(arch: str) -> None:
    """Token by token, from the softmax of the logits after all that its window has before it."""
    model = random_model(257, arch=arch, context=5)
    ids = np.array([72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100, 33, 10], np.uint32)
    view = surprisal(model, byte_tokenizer(), ids)
    assert len(view.nats) == len(view.ranks) == len(view.best) == 12
    for place in range(1, len(ids)):
        start = (place - 1) // 5 * 5
        logits = model(torch.tensor([ids[start:place].tolist()]))[0, -1].double().tolist()
        weights = [math.exp(logit) for logit in logits]
        order = sorted(range(257), key=lambda token: -weights[token])
        share = weights[ids[place]] / sum(weights)
        assert view.nats[place - 1] == pytest.approx(-math.log(share), abs=1e-4)
        assert view.ranks[place - 1] == order.index(ids[place]) + 1
        assert view.best[place - 1] == order[0]
        assert view.best_nats[place - 1] == pytest.approx(-math.log(max(weights) / sum(weights)), abs=1e-4)
    assert view.bytes == 12
    assert view.bits_per_byte == pytest.approx(view.nats.sum() / math.log(2) / 12)
    assert view.perplexity == pytest.approx(math.exp(view.nats.mean()), rel=1e-5)
    assert view.bits[view.worst(1)[0] - 1] == view.bits.max()


def test_the_logits_of_a_long_window_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = random_model(257, arch="llama", context=20), np.arange(60, dtype=np.uint32)
    whole = surprisal(model, byte_tokenizer(), ids)
    monkeypatch.setattr("mygpt_cli.inspection.surprisal.rows_at_once", lambda vocab_size: 7)
    parts = surprisal(model, byte_tokenizer(), ids)
    np.testing.assert_allclose(parts.nats, whole.nats, atol=1e-5)
    assert parts.ranks.tolist() == whole.ranks.tolist()


def test_bits_per_byte_are_those_of_the_trainer(tiny_dataset: Dataset) -> None:
    model = random_model(tiny_dataset.tokenizer.vocab_size, context=16)
    trainer = Trainer(tiny_config(), tiny_dataset, model.requires_grad_(True))
    evaluated = trainer._evaluate()
    view = surprisal(model, tiny_dataset.tokenizer, tiny_dataset.val)
    assert view.bits_per_byte == pytest.approx(evaluated.bits_per_byte, rel=1e-6)
    assert view.nats_per_token == pytest.approx(evaluated.val_loss, rel=1e-6)


def test_a_text_is_cut_as_training_cuts_it(tmp_path: Path, tiny_dataset: Dataset) -> None:
    path = tmp_path / "part.txt"
    text = tiny_dataset.tokenizer.decode(tiny_dataset.val.tolist())
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert encode(tiny_dataset.tokenizer, open_text(str(path)).chunks()).tolist() == tiny_dataset.val.tolist()
    path.write_text(f"{text}é", encoding="utf-8")
    with pytest.raises(TextError, match=f"character {len(text) + 1}"):
        encode(tiny_dataset.tokenizer, open_text(str(path)).chunks())


def test_what_cannot_be_measured() -> None:
    model, tokenizer = random_model(257), byte_tokenizer()
    with pytest.raises(TextError, match="takes two"):
        surprisal(model, tokenizer, np.array([65], np.uint32))
    with pytest.raises(TextError, match="empty"):
        surprisal(model, tokenizer, np.empty(0, np.uint32))
    with torch.no_grad():
        dict(model.named_parameters())["blocks.1.mlp.up.weight"].fill_(math.nan)
    with pytest.raises(MygptError, match="layer 2 of 2"):
        surprisal(model, tokenizer, np.array([65, 66], np.uint32))


def test_perplexity_stays_a_number() -> None:
    huge = np.array([1e6], np.float32)
    one = np.array([1])
    assert math.isfinite(Surprisal(np.array([1, 2]), huge, one, one, huge, 1).perplexity)

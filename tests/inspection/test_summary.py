"""What `inspect` says about a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mygpt_cli.checkpoints.checkpoint import load
from mygpt_cli.inspection.summary import Part, parts_of, summarise
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from tests.helpers.standins import random_checkpoint


def test_the_parts_of_gpt2_small() -> None:
    import torch

    with torch.device("meta"):
        model = GPT(configure("gpt2", vocab_size=50257, layers=12, heads=12, width=768, context=1024))
    assert parts_of(model) == (
        Part("token embedding", 1, 38_597_376),
        Part("position embedding", 1, 786_432),
        Part("attention", 48, 28_348_416),
        Part("feed-forward", 48, 56_669_184),
        Part("norms", 50, 38_400),
    )
    assert sum(part.parameters for part in parts_of(model)) == 124_439_808


@pytest.mark.parametrize("arch", ["gpt2", "nanochat"])
def test_a_summary_tells_identity_and_training(tmp_path: Path, arch: str) -> None:
    checkpoint = load(random_checkpoint(tmp_path / "run" / "last", arch=arch))
    summary = summarise(checkpoint)
    assert summary.model.arch == arch
    assert summary.parameters == sum(part.parameters for part in summary.parts)
    assert summary.bytes == 4 * summary.parameters
    assert (summary.tokenizer.kind, summary.tokenizer.vocab_size, summary.tokenizer.end_of_text) == (
        "bpe",
        280,
        279,
    )
    assert summary.training is not None
    assert (summary.training.step, summary.training.steps, summary.training.seconds) == (7, 9, 71.0)
    assert summary.training.best_bits_per_byte == 2.5
    assert summary.training.val_loss is None


def test_losses_are_those_of_the_checkpoints_own_step(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "run" / "last")
    events = [
        {
            "event": "evaluated",
            "step": step,
            "val_loss": loss,
            "train_loss": loss - 1,
            "bits_per_byte": loss / 2,
        }
        for step, loss in ((3, 5.0), (6, 4.0), (9, 3.0))
    ]
    lines = [*map(json.dumps, events), '{"event": "progress", "step": 7}', "cut o"]
    (folder.parent / "config.toml").write_text("", encoding="utf-8")
    (folder.parent / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    training = summarise(load(folder)).training
    assert training is not None
    assert (training.train_loss, training.val_loss, training.bits_per_byte) == (3.0, 4.0, 2.0)
    assert training.train_from == 3


def test_what_a_damaged_record_says_is_left_out(tmp_path: Path) -> None:
    checkpoint = load(random_checkpoint(tmp_path / "last"))
    for state in ({}, {"history": 3, "step": "many"}, {"history": {"seconds": float("nan")}, "steps": True}):
        training = summarise(replace(checkpoint, state=state)).training
        assert training is not None
        assert set(vars(training).values()) == {None}
    assert summarise(replace(checkpoint, state=None)).training is None

"""The training loop: resuming, accumulating, validating, diverging."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mygpt_cli.base.errors import DivergedError, ResourceError
from mygpt_cli.config.course import Course
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.windows import read_in_a_row
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens.bpe_dropout import BPEDropout
from mygpt_cli.tokens.dataset import Dataset, prepare
from mygpt_cli.training.budget import Budget
from mygpt_cli.training.events import (
    CheckpointDue,
    Corrected,
    Evaluated,
    Event,
    Finished,
    Noted,
    Progress,
    Started,
)
from mygpt_cli.training.history import History
from mygpt_cli.training.trainer import Trainer
from tests.conftest import tiny_config
from tests.helpers.machine import Machine
from tests.helpers.trainers import ON_LINUX, new_trainer, run_out_of_memory, same_weights


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.2, "accumulation": 3},
        {"optimizer": "adamw", "arch": "gpt2", "bias": True, "dropout": 0.1},
        {"dtype": "bfloat16", "dropout": 0.1},
        {"dropout": 0.2, "average": 0.2},
        {"dropout": 0.2, "average": 0.2, "members": 3, "accumulation": 2},
        {"arch": "gpt2", "optimizer": "adamw", "members": 2, "steps": 13},
        {"arch": "qwen3", "average": 0.2, "members": 2, "steps": 13},
        {"arch": "qwen3", "average": 0.2, "batch_size": 256},
        {"arch": "qwen3", "average": 0.2, "batch_size": 256, "members": 2, "steps": 13},
        {"arch": "gpt2", "optimizer": "adamw", "average": 0.2, "bias": True, "batch_size": 256},
    ],
    ids=str,
)
@pytest.mark.parametrize("stop_at", [1, 7, 11])
def test_resuming_is_not_to_have_stopped(
    tiny_dataset: Dataset, changes: dict[str, object], stop_at: int
) -> None:
    config = tiny_config(**changes)
    whole = new_trainer(config, tiny_dataset)
    whole_events = list(whole.run())

    first = new_trainer(config, tiny_dataset)
    list(first.run(stop=lambda: "SIGINT" if first.history.step == stop_at else None))
    second = Trainer(config, tiny_dataset, first.model, History(**asdict(first.history)))
    second.load_state({name: t.clone() for name, t in first.state().items()})
    events = list(second.run())
    assert same_weights(whole.model, second.model)
    state = second.state()
    assert all(torch.equal(t, state[name]) for name, t in whole.state().items())
    last = [[e.bits_per_byte for e in es if isinstance(e, Evaluated)][-1] for es in (whole_events, events)]
    assert last[0] == last[1]


def test_the_average_is_what_is_validated_and_the_weights_are_what_is_trained(tiny_dataset: Dataset) -> None:
    config = tiny_config(dropout=0.1, steps=12, eval_every=5, save_every=4)
    plain = new_trainer(config, tiny_dataset)
    seen = [[p.detach().clone() for p in plain.model.parameters()]]
    update = plain.update

    def watched(step: int) -> tuple[float, float]:
        taken = update(step)
        seen.append([p.detach().clone() for p in plain.model.parameters()])
        return taken

    plain.update = watched  # type: ignore[method-assign]
    list(plain.run())
    averages = [seen[0]]
    for step, weights in enumerate(seen[1:], 1):
        pairs = zip(averages[-1], weights, strict=True)
        averages.append([torch.lerp(a, w, min(1.0, 1 / (0.25 * step))) for a, w in pairs])

    trainer = new_trainer(replace(config, average=0.25), tiny_dataset)
    for event in trainer.run():
        if isinstance(event, Evaluated | CheckpointDue):
            pairs = zip(trainer.model.parameters(), averages[event.step], strict=True)
            assert all(torch.allclose(p, a, atol=1e-6) for p, a in pairs)
        if isinstance(event, Evaluated):
            nats = trainer.validation_loss(tiny_dataset.val)
            assert event.val_loss == pytest.approx(nats / (len(tiny_dataset.val) - 1))
    state = trainer.state()
    names = [name for name, _ in trainer.model.named_parameters()]
    assert all(torch.equal(state[f"weights.{n}"], w) for n, w in zip(names, seen[-1], strict=True))


def clocked(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> tuple[Trainer, list[Event]]:
    """Train by the clock of a machine that is half as fast from 35% of the time on, and twice from 75% on."""
    machine = Machine(monkeypatch, lambda now: 1.0 if now < 21 else 2.0 if now < 45 else 0.5)
    steps = {"steps": 60, "warmup": 3, "decay_fraction": 0.6, "patience": 0}
    trainer = new_trainer(tiny_config(**(steps | changes)), dataset)
    trainer.budget = Budget(60.0, 1.0, 0.2)
    return trainer, list(machine.drive(trainer, monkeypatch, step=1.0, validation=0.2).run())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.2, "accumulation": 2, "schedule": "cosine", "final_lr": 0.1, "keep_every": 7},
        {"schedule": "constant", "eval_every": 60, "dtype": "bfloat16", "average": 0.1},
        {"members": 2, "average": 0.1},
    ],
    ids=str,
)
def test_a_corrected_run_can_be_repeated_without_a_clock(
    tiny_dataset: Dataset, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        trainer, events = clocked(tiny_dataset, patch, changes)
    corrected = [event for event in events if isinstance(event, Corrected)]
    assert {event.steps > event.before for event in corrected} == {True, False}
    assert [(event.step, event.steps) for event in corrected] == list(trainer.config.corrections[1:])
    again = new_trainer(trainer.config, tiny_dataset)
    repeated = list(again.run())
    assert same_weights(trainer.model, again.model)
    assert not any(isinstance(event, Corrected) for event in repeated)

    def told(events: list[Event]) -> list[tuple[object, ...]]:
        kinds = Evaluated | Progress | CheckpointDue
        what = ("step", "loss", "lr", "grad_norm", "val_loss", "train_loss", "best", "keep", "last")
        return [tuple(getattr(e, name, None) for name in what) for e in events if isinstance(e, kinds)]

    assert told(events) == told(repeated)
    # Stopped before a correction or after one, it ends as it would have.
    for step in (corrected[0].step - 1, corrected[-1].step):
        assert same_weights(trainer.model, stopped_and_resumed(trainer.config, tiny_dataset, step))


def stopped_and_resumed(config: TrainConfig, dataset: Dataset, step: int) -> GPT:
    """Train to a step, and to the end with another trainer; return its model."""
    first = new_trainer(config, dataset)
    list(first.run(stop=lambda: "SIGINT" if first.history.step == step else None))
    second = Trainer(config, dataset, first.model, History(**asdict(first.history)))
    second.load_state({name: t.clone() for name, t in first.state().items()})
    list(second.run())
    return second.model


def test_validating_once_is_at_the_end_wherever_that_is(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, events = clocked(tiny_dataset, monkeypatch, {"eval_every": 50, "steps": 50})
    assert trainer.config.corrections
    assert [e.step for e in events if isinstance(e, Evaluated)] == [trainer.config.steps]


@pytest.mark.parametrize(
    ("corrections", "split_steps"),
    [((), 34), (((0, 40), (10, 24)), 21), (((0, 40), (30, 60)), 51), (((0, 40), (36, 60)), 49)],
)
def test_tokens_are_split_until_the_end_comes_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corrections: Course, split_steps: int
) -> None:
    """In the first 85% of the steps there were then to be: in the last case not for steps 34 and 35."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(200)), encoding="utf-8")
    dataset = prepare(open_corpus([str(path)]), tokenizer="bpe", vocab_size=300, cache=tmp_path / "cache")
    steps = corrections[-1][1] if corrections else 40
    trainer = new_trainer(tiny_config(steps=steps, corrections=corrections, bpe_dropout=0.25), dataset)
    assert isinstance(trainer._batches.bpe_dropout, BPEDropout)
    split = trainer._batches.bpe_dropout.split
    probabilities = []

    def watched(windows: np.ndarray, probability: float, random: np.random.Generator) -> np.ndarray:
        probabilities.append(probability)
        return split(windows, probability, random)

    monkeypatch.setattr(trainer._batches.bpe_dropout, "split", watched)
    list(trainer.run())
    assert probabilities == [0.25] * split_steps


def test_events_come_in_order(tiny_dataset: Dataset) -> None:
    events = list(new_trainer(tiny_config(), tiny_dataset).run())
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert [e.step for e in events if isinstance(e, Progress)] == [3, 6, 9, 12]
    evaluated = [e for e in events if isinstance(e, Evaluated)]
    assert [e.step for e in evaluated] == [5, 10, 12]
    due = [e for e in events if isinstance(e, CheckpointDue)]
    assert {4, 8, 12} <= {e.step for e in due}
    assert due[-1].last
    assert [e.step for e in due if e.best] == [e.step for e in evaluated if e.best]
    assert events[-1].best_bits_per_byte == min(e.bits_per_byte for e in evaluated)


def test_it_learns(tiny_dataset: Dataset) -> None:
    config = tiny_config(steps=150, log_every=50, eval_every=150, batch_size=16)
    losses = [e.loss for e in new_trainer(config, tiny_dataset).run() if isinstance(e, Progress)]
    assert losses[-1] < 0.6 * math.log(tiny_dataset.tokenizer.vocab_size)


def test_accumulated_batches_are_one_large_batch(tiny_dataset: Dataset) -> None:
    large = tiny_config(batch_size=12, optimizer="adamw")
    small = replace(large, batch_size=4, accumulation=3)
    a, b = new_trainer(large, tiny_dataset), new_trainer(small, tiny_dataset)
    for step in range(3):
        loss_a, norm_a = a.update(step)
        loss_b, norm_b = b.update(step)
        assert loss_a == pytest.approx(loss_b, abs=1e-5)
        assert norm_a == pytest.approx(norm_b, abs=1e-4)


@pytest.mark.parametrize(
    ("arch", "batch_size", "times"),
    [("llama", 4, 1), ("qwen3", 1, 8), ("qwen3", 24, 8)],
)
def test_validation_is_the_naive_sum(tiny_dataset: Dataset, arch: str, batch_size: int, times: int) -> None:
    """Window by window, token by token, each but the first predicted from what precedes it in its window.

    A model whose attention looks back no further than it was trained on reads a whole context at once.
    """
    config = tiny_config(steps=5, log_every=5, arch=arch, batch_size=batch_size)
    trainer = new_trainer(config, tiny_dataset)
    length = read_in_a_row(trainer.model.config, config.context)
    assert length == times * config.context
    event = next(e for e in trainer.run() if isinstance(e, Evaluated))
    ids = torch.from_numpy(tiny_dataset.val.astype("int64"))
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, length):
            window = ids[start : start + length + 1]
            logprobs = trainer.model(window[None, :-1])[0].log_softmax(dim=-1)
            nats -= sum(logprobs[i, token].item() for i, token in enumerate(window[1:].tolist()))
    count = len(ids) - 1
    assert event.val_loss == pytest.approx(nats / count, rel=1e-5)
    # One byte for each character here, and the first is not predicted.
    assert event.nats_per_character == pytest.approx(nats / count, rel=1e-5)
    assert event.bits_per_byte == pytest.approx(nats / count / math.log(2), rel=1e-5)


def test_numbers_that_are_not_finite_never_reach_the_weights(tiny_dataset: Dataset) -> None:
    trainer = new_trainer(tiny_config(steps=40, save_every=1), tiny_dataset)
    events = []
    with pytest.raises(DivergedError, match="at step 6, embedding is no longer finite"):
        for event in trainer.run():
            events.append(event)
            if trainer.history.step == 5 and isinstance(event, CheckpointDue):
                with torch.no_grad():
                    trainer.model.embedding[:, 3] = math.nan
                before = [p.clone() for p in trainer.model.parameters()]
    for parameter, kept in zip(trainer.model.parameters(), before, strict=True):
        assert torch.equal(parameter.nan_to_num(7.0), kept.nan_to_num(7.0))
    assert max(e.step for e in events if isinstance(e, CheckpointDue)) == 5
    assert trainer.history.best_step == 5


def test_gradients_that_stay_out_of_bounds_end_training(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(tiny_config(steps=40, save_every=100, eval_every=100), tiny_dataset)
    real = trainer.backend.accumulate_gradients
    monkeypatch.setattr(trainer.backend, "accumulate_gradients", lambda *args: real(*args) * math.nan)
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(DivergedError, match="10 steps in a row, up to step 10") as fault:
        list(trainer.run())
    assert fault.value.exit_code == 6
    assert all(torch.equal(p, k) for p, k in zip(trainer.model.parameters(), before, strict=True))


def test_a_single_bad_step_is_counted_and_passed_over(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(tiny_config(), tiny_dataset)
    real = trainer.backend.accumulate_gradients

    def failing(*arguments: object) -> torch.Tensor:
        loss = real(*arguments)  # type: ignore[arg-type]
        return loss * math.inf if trainer.history.step == 6 else loss

    monkeypatch.setattr(trainer.backend, "accumulate_gradients", failing)
    finished = list(trainer.run())[-1]
    assert isinstance(finished, Finished)
    assert finished.refused == 1
    assert finished.step == 12
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_a_spike_is_passed_over(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = new_trainer(tiny_config(steps=120, patience=0), tiny_dataset)
    real = trainer.backend.accumulate_gradients
    kept: list[torch.Tensor] = []

    def spiking(*arguments: Any) -> torch.Tensor:
        ids, targets, masks, scale = arguments
        if trainer.history.step == 110:
            kept.extend(p.clone() for p in trainer.model.parameters())
            scale *= 1e4
        if trainer.history.step == 111:
            assert all(torch.equal(p, k) for p, k in zip(trainer.model.parameters(), kept, strict=True))
        return real(ids, targets, masks, scale)

    monkeypatch.setattr(trainer.backend, "accumulate_gradients", spiking)
    finished = list(trainer.run())[-1]
    assert isinstance(finished, Finished)
    assert finished.refused == 1


def test_training_ends_when_it_no_longer_helps(tiny_dataset: Dataset) -> None:
    """A text of a few lines is soon known by heart: said in words, and the best is kept."""
    few = replace(tiny_dataset, train=tiny_dataset.train[:100])
    config = tiny_config(steps=3000, eval_every=20, batch_size=8, width=32, patience=4)
    events = list(new_trainer(config, few).run())
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.reason == "no longer improves"
    assert finished.step < 3000
    assert isinstance(events[-2], CheckpointDue)
    assert [e.step for e in events if isinstance(e, CheckpointDue) and e.best][-1] == finished.best_step
    notes = [e.text for e in events if isinstance(e, Noted)]
    assert len(notes) == 1
    assert "memorise" in notes[0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_model_worse_than_guessing_is_named_once(optimizer: str, tiny_dataset: Dataset) -> None:
    fast = {"lr": 10.0, "muon_lr": 10.0, "schedule": "constant", "clip": 0.0, "optimizer": optimizer}
    events = list(new_trainer(tiny_config(steps=40, patience=0, **fast), tiny_dataset).run())
    guessing = math.log(tiny_dataset.tokenizer.vocab_size)
    assert sum(e.val_loss > guessing for e in events if isinstance(e, Evaluated)) > 1
    said = [e.text for e in events if isinstance(e, Noted)]
    assert len(said) == 1
    assert f"that of guessing {guessing:.2f}" in said[0]
    assert said[0].endswith("a lower --lr" + (" and --muon-lr" if optimizer == "muon" else ""))
    events = list(new_trainer(tiny_config(steps=40, optimizer=optimizer), tiny_dataset).run())
    assert not [e for e in events if isinstance(e, Noted)]


@pytest.mark.parametrize("clip", [1e-3, 0.0, 1e6])
def test_clipping_bounds_the_gradient(tiny_dataset: Dataset, clip: float) -> None:
    trainer = new_trainer(tiny_config(clip=clip), tiny_dataset)
    _, norm = trainer.update(0)
    assert 1e-3 < norm < 1e6
    grads = torch.stack([p.grad.norm() for p in trainer.model.parameters() if p.grad is not None])
    assert grads.norm().item() == pytest.approx(min(norm, clip or math.inf), rel=1e-2)


def test_bfloat16_learns_what_float32_learns(tiny_dataset: Dataset) -> None:
    losses = []
    for dtype in ("float32", "bfloat16"):
        trainer = new_trainer(tiny_config(dtype=dtype), tiny_dataset)
        losses.append([trainer.update(step)[0] for step in range(10)])
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


@pytest.mark.parametrize(
    ("arch", "batch_size", "shape"), [("llama", 3, (3, 16)), ("qwen3", 3, (1, 128)), ("qwen3", 24, (3, 128))]
)
def test_validation_takes_about_as_much_at_once_as_a_step(
    tiny_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    arch: str,
    batch_size: int,
    shape: tuple[int, int],
) -> None:
    trainer = new_trainer(tiny_config(batch_size=batch_size, arch=arch), tiny_dataset)
    logits = trainer.model(torch.from_numpy(tiny_dataset.val[:-1].astype(np.int64)[:16])[None])
    sizes = []
    real = trainer.backend.loss

    def counted(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(ids.shape))
        return real(ids, targets)

    monkeypatch.setattr(trainer.backend, "loss", counted)
    expected = trainer.validation_loss(tiny_dataset.val)
    assert sizes[0] == shape
    assert max(math.prod(size) for size in sizes) == math.prod(shape)
    targets = torch.from_numpy(tiny_dataset.val[1:17].astype(np.int64))
    by_hand = torch.nn.functional.cross_entropy(logits[0], targets, reduction="sum").item()
    assert trainer.validation_loss(tiny_dataset.val[:17]) == pytest.approx(by_hand, rel=1e-5)

    run_out_of_memory(trainer, 1, ON_LINUX, monkeypatch)
    assert trainer.validation_loss(tiny_dataset.val) == pytest.approx(expected, rel=1e-6)
    run_out_of_memory(trainer, 0, ON_LINUX, monkeypatch)
    with pytest.raises(ResourceError, match="a single sequence of 16 tokens"):
        trainer.validation_loss(tiny_dataset.val)


@pytest.mark.parametrize(
    ("at", "planned", "steps", "changes", "words"),
    [
        (12, 12, 60, {}, "had fallen to 17% of its peak: it rises again to 100% by step 15 and falls to 0%"),
        (3, 12, 60, {}, "had not begun to fall"),
        (1, 12, 60, {"warmup": 5}, "had not begun to fall"),
        (12, 12, 60, {"schedule": "constant"}, "had not begun to fall"),
        (12, 12, 13, {}, "goes on falling from 17%"),
        (30, 200, 40, {}, "falls from 100% of its peak to 50% at once"),
    ],
)
def test_more_steps_change_the_learning_rate_as_is_said(
    tiny_dataset: Dataset, at: int, planned: int, steps: int, changes: dict[str, object], words: str
) -> None:
    trainer = new_trainer(tiny_config(steps=steps, **changes), tiny_dataset)
    trainer.history.step, trainer.history.evals_since_best = at, 2
    said = trainer.extend(((0, planned),))
    assert said.startswith(f"the run now ends at step {steps} instead of {planned}; its learning rate")
    assert words in said
    assert trainer.history.evals_since_best == 0

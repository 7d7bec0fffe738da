"""The training loop: resuming, accumulating, validating, diverging."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from mygpt_cli.config import TrainConfig
from mygpt_cli.dataset import Dataset
from mygpt_cli.errors import DivergedError
from mygpt_cli.model.gpt import GPT
from mygpt_cli.training.events import Evaluated, Finished, Noted, Progress, SaveDue, Started
from mygpt_cli.training.trainer import History, Trainer
from tests.conftest import tiny_config


def new_trainer(config: TrainConfig, dataset: Dataset) -> Trainer:
    model = GPT(config.model(dataset.tokenizer.vocab_size))
    model.initialise(torch.Generator().manual_seed(config.seed))
    model.compute_dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    return Trainer(config, dataset, model)


def same_weights(a: GPT, b: GPT) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.2, "accumulation": 3},
        {"optimizer": "adamw", "arch": "gpt2", "bias": True, "dropout": 0.1},
        {"dtype": "bfloat16", "dropout": 0.1},
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
    second.optimizer.load_state({name: t.clone() for name, t in first.optimizer.state().items()})
    events = list(second.run())
    assert same_weights(whole.model, second.model)
    state = second.optimizer.state()
    assert all(torch.equal(t, state[name]) for name, t in whole.optimizer.state().items())
    last = [[e.bits_per_byte for e in es if isinstance(e, Evaluated)][-1] for es in (whole_events, events)]
    assert last[0] == last[1]


def test_events_come_in_order(tiny_dataset: Dataset) -> None:
    events = list(new_trainer(tiny_config(), tiny_dataset).run())
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert [e.step for e in events if isinstance(e, Progress)] == [3, 6, 9, 12]
    evaluated = [e for e in events if isinstance(e, Evaluated)]
    assert [e.step for e in evaluated] == [5, 10, 12]
    due = [e for e in events if isinstance(e, SaveDue)]
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


def test_validation_is_the_naive_sum(tiny_dataset: Dataset) -> None:
    """Window by window, token by token, each but the first predicted from what precedes it in its window."""
    config = tiny_config(steps=5, log_every=5)
    trainer = new_trainer(config, tiny_dataset)
    event = next(e for e in trainer.run() if isinstance(e, Evaluated))
    ids = torch.from_numpy(tiny_dataset.val.astype("int64"))
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, config.context):
            window = ids[start : start + config.context + 1]
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
            if trainer.history.step == 5 and isinstance(event, SaveDue):
                with torch.no_grad():
                    trainer.model.embedding[:, 3] = math.nan
                before = [p.clone() for p in trainer.model.parameters()]
    for parameter, kept in zip(trainer.model.parameters(), before, strict=True):
        assert torch.equal(parameter.nan_to_num(7.0), kept.nan_to_num(7.0))
    assert max(e.step for e in events if isinstance(e, SaveDue)) == 5
    assert trainer.history.best_step == 5


def test_gradients_that_stay_out_of_bounds_end_training(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(tiny_config(steps=40, save_every=100, eval_every=100), tiny_dataset)
    real = trainer.model.loss
    monkeypatch.setattr(trainer.model, "loss", lambda *arguments: real(*arguments) * math.nan)
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(DivergedError, match="10 steps in a row, up to step 10") as fault:
        list(trainer.run())
    assert fault.value.exit_code == 6
    assert all(torch.equal(p, k) for p, k in zip(trainer.model.parameters(), before, strict=True))


def test_a_single_bad_step_is_counted_and_passed_over(
    tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = new_trainer(tiny_config(), tiny_dataset)
    real = trainer.model.loss

    def failing(*arguments: object) -> torch.Tensor:
        loss = real(*arguments)  # type: ignore[arg-type]
        return loss * math.inf if trainer.history.step == 6 else loss

    monkeypatch.setattr(trainer.model, "loss", failing)
    finished = list(trainer.run())[-1]
    assert isinstance(finished, Finished)
    assert finished.refused == 1
    assert finished.step == 12
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_a_spike_is_passed_over(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = new_trainer(tiny_config(steps=120, patience=0), tiny_dataset)
    real = trainer.model.loss
    kept: list[torch.Tensor] = []

    def spiking(*arguments: object) -> torch.Tensor:
        if trainer.history.step == 110:
            kept.extend(p.clone() for p in trainer.model.parameters())
            return real(*arguments) * 1e4  # type: ignore[arg-type]
        if trainer.history.step == 111:
            assert all(torch.equal(p, k) for p, k in zip(trainer.model.parameters(), kept, strict=True))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.model, "loss", spiking)
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
    assert isinstance(events[-2], SaveDue)
    assert [e.step for e in events if isinstance(e, SaveDue) and e.best][-1] == finished.best_step
    notes = [e.text for e in events if isinstance(e, Noted)]
    assert len(notes) == 1
    assert "by heart" in notes[0]


def test_clipping_bounds_the_gradient(tiny_dataset: Dataset) -> None:
    trainer = new_trainer(tiny_config(clip=1e-3), tiny_dataset)
    _, norm = trainer.update(0)
    assert norm > 1e-3
    grads = torch.stack([p.grad.norm() for p in trainer.model.parameters() if p.grad is not None])
    assert grads.norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_bfloat16_learns_what_float32_learns(tiny_dataset: Dataset) -> None:
    losses = []
    for dtype in ("float32", "bfloat16"):
        trainer = new_trainer(tiny_config(dtype=dtype), tiny_dataset)
        losses.append([trainer.update(step)[0] for step in range(10)])
    assert losses[0] == pytest.approx(losses[1], abs=0.05)

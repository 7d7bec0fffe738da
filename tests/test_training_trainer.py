"""The training loop: resuming, accumulating, validating, diverging."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from mygpt_cli.config import TrainConfig
from mygpt_cli.dataset import Dataset
from mygpt_cli.errors import DivergedError
from mygpt_cli.model.gpt import GPT
from mygpt_cli.training.events import Evaluated, Finished, Progress, SaveDue, Started
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
    trainer = new_trainer(tiny_config(), tiny_dataset)
    trainer.update(0)
    with torch.no_grad():
        trainer.model.embedding[3, 3] = math.nan
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(DivergedError, match="step 2: the loss is nan"):
        for step in range(1, 4):
            trainer.update(step)
    for parameter, kept in zip(trainer.model.parameters(), before, strict=True):
        assert torch.equal(parameter.nan_to_num(), kept.nan_to_num())


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

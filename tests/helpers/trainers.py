"""Small trainers, and what may befall them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest
import torch

from mygpt_cli.base.processes import Processes
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.dataset import Dataset
from mygpt_cli.training.budget import SAVE
from mygpt_cli.training.events import Evaluated, Progress
from mygpt_cli.training.parallel import Copies
from mygpt_cli.training.trainer import Trainer


def new_trainer(config: TrainConfig, dataset: Dataset, processes: Processes | None = None) -> Trainer:
    model = GPT(config.model(dataset.tokenizer.vocab_size))
    model.initialise(torch.Generator().manual_seed(config.seed))
    model.compute_dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    return Trainer(config, dataset, model, processes=processes, parallel=shards(config, model, processes))


def shards(config: TrainConfig, model: GPT, processes: Processes | None) -> Copies | None:
    """Shard a model among several processes where that is asked for."""
    if not config.shard or not processes or processes.count == 1:
        return None
    from mygpt_cli.training.shards import Shards

    return Shards(model, processes.mesh(torch.device("cpu")), processes)


def run_out_of_memory(
    trainer: Trainer, most: int, error: Exception, monkeypatch: pytest.MonkeyPatch, calls: int = 0
) -> None:
    """Let the back-end fail on more than `most` sequences, after this many calls in training."""
    backend, left = trainer.backend, [calls]
    loss, accumulate = backend.loss, backend.accumulate_gradients

    def failing_loss(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if left[0] <= 0 and ids.size(0) > most:
            raise error
        return loss(ids, targets)

    def failing_gradients(ids: torch.Tensor, *arguments: Any) -> torch.Tensor:
        if left[0] <= 0 and ids.size(0) > most:
            raise error
        left[0] -= 1
        return accumulate(ids, *arguments)

    monkeypatch.setattr(backend, "loss", failing_loss)
    monkeypatch.setattr(backend, "accumulate_gradients", failing_gradients)


ON_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


ON_LINUX = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")


ON_WINDOWS = RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")


ON_ONE_DNN = RuntimeError("could not create a primitive")


def seconds_of(config: TrainConfig, done: int, pace: float, validation: float) -> float:
    """Go through all that a run does, step by step."""
    seconds = 0.0
    for step in range(done + 1, config.steps + 1):
        last = step == config.steps
        validates = last or (config.eval_every < config.course[0][1] and step % config.eval_every == 0)
        keeps = config.keep_every > 0 and step % config.keep_every == 0
        saves = 2 if keeps else int(validates or step % config.save_every == 0)
        seconds += pace + validates * validation + saves * SAVE
    return seconds


def run_to(trainer: Trainer, step: int) -> dict[str, Any]:
    """Train to a step, or to the end where that is 0; return the curves, and where the loop is by then."""
    events = list(trainer.run(lambda: "SIGINT" if trainer.history.step == step else None))
    return {
        "losses": [event.loss for event in events if isinstance(event, Progress)],
        "norms": [event.grad_norm for event in events if isinstance(event, Progress)],
        "val": [event.val_loss for event in events if isinstance(event, Evaluated)],
        "history": asdict(trainer.history),
    }


def as_state(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what another process has sent as numbers, as tensors again."""
    parts = {
        part: {name: torch.from_numpy(array) for name, array in result[part].items()}
        for part in ("model", "optimizer")
    }
    return parts | {"history": result["history"]}


def same_weights(a: GPT, b: GPT) -> bool:
    """Whether two models have the same weights, bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))

"""What to do when memory runs out in a forward or backward pass: again, with fewer sequences at once."""

from collections.abc import Callable
from typing import TypeVar

import torch

from mygpt_cli.base.errors import MygptError, ResourceError
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.training.parallel import Copies
from mygpt_cli.training.sharing import Outcome

Result = TypeVar("Result")


def within_memory(
    action: Callable[[], Result],
    parallel: Copies,
    take_fewer: Callable[[], None],
    is_single: Callable[[], bool],
) -> Result:
    """Do this, again after `take_fewer` each time that memory runs out, in whichever process.

    `is_single` tells whether one sequence at a time is taken already: then what only may have been memory is
    raised as it is. Raises what `take_fewer` raises.
    """
    surely = False
    while True:
        fault: Exception | None = None
        try:
            result = action()
        except (RuntimeError, MemoryError) as error:
            fault = error
        worst = parallel.outcome(fault)
        if worst == Outcome.FINE:
            return result
        surely = surely or worst == Outcome.NO_MEMORY
        if worst == Outcome.FAILED or (is_single() and not surely):
            raise fault or MygptError("another process of this run has failed", "it says why")
        fault = None  # which holds on to memory
        parallel.forget_gradients()
        if parallel.model.embedding.device.type == "cuda":
            torch.cuda.empty_cache()
        take_fewer()


def at_once(config: TrainConfig, processes: int) -> int:
    """Return how many sequences each of so many processes takes in one forward pass, at most."""
    return min(config.batch_size, config.batch_size * config.accumulation // processes)


def with_fewer_at_once(config: TrainConfig, processes: int, *, sharded: bool) -> TrainConfig:
    """Return the same step in smaller parts; ResourceError when there are none, or the model is sharded."""
    before = at_once(config, processes)
    if before == 1:
        raise ResourceError(
            f"memory ran out on a single sequence of {config.context} tokens",
            "use less with a smaller --context or model (--layers, --width); what was saved can be "
            "resumed on a machine with more memory",
        )
    smaller = config
    while at_once(smaller, processes) == before:
        smaller = smaller.in_smaller_parts()
    if sharded:
        flags = f"--batch-size {smaller.batch_size} --accumulation {smaller.accumulation}"
        raise ResourceError(
            f"memory ran out on {before} sequences at once, and a sharded step cannot be taken again",
            f"`{flags}` takes each step in smaller parts, also with --resume",
        )
    return smaller

"""How the work of a step is shared out among processes, and put together again."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from enum import IntEnum

import torch
from torch import Tensor

from mygpt_cli.base.errors import MygptError, is_out_of_memory, may_be_out_of_memory
from mygpt_cli.base.processes import Processes
from mygpt_cli.training.history import History


def micro_batches(sequences: int, size: int, rows: slice) -> Iterator[tuple[int, slice, slice]]:
    """Yield what a process that takes these rows of a step has of each forward pass of `size` sequences.

    That is the number of the pass, which of its rows they are, and which of the process's own.
    """
    for number, start in enumerate(range(0, sequences, size)):
        first, last = max(start, rows.start), min(start + size, rows.stop)
        if first < last:
            yield number, slice(first - start, last - start), slice(first - rows.start, last - rows.start)


def passes_of(sequences: int, size: int, count: int) -> list[int]:
    """Return how many forward passes of `size` sequences each of so many processes has a part in."""
    each = sequences // count
    return [((rank + 1) * each - 1) // size - rank * each // size + 1 for rank in range(count)]


def add_up(processes: Processes, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
    """Add up the gradients, and the losses, of all processes in one exchange; return the loss.

    Each process has scaled its own by its share of the step.
    """
    if processes.count == 1:
        return loss
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = processes.total(torch.cat([*(gradient.reshape(-1) for gradient in gradients), loss.reshape(1)]))
    parts = torch.split(flat, [*(gradient.numel() for gradient in gradients), 1])
    for parameter, part in zip(parameters, parts[:-1], strict=True):
        parameter.grad = part.view_as(parameter)
    total: Tensor = parts[-1][0]
    return total


def agreed_norm(processes: Processes, norm: Tensor) -> Tensor:
    """Return the gradient's norm, with the same bits in all processes, whatever their processors."""
    if processes.count == 1:
        return norm
    value = norm.item()
    return norm.new_tensor(processes.most(value if math.isfinite(value) else math.inf)[0])


def agreed(processes: Processes, steps: int | None, reason: str | None) -> tuple[int | None, str | None]:
    """Return, after a step, what goes for all: the first one's `steps`, and any one's `reason` to stop."""
    if processes.count == 1:
        return steps, reason
    corrected = (steps or 0) if processes.first else 0
    total, stopping = processes.most(corrected, processes.rank + 1 if reason else 0)
    return int(total) or None, processes.of(int(stopping) - 1, reason) if stopping else None


def take_over(processes: Processes, history: History) -> None:
    """Wait until the first process has saved or shown what it had to, and learn what it knows of the run."""
    if processes.count > 1:
        with processes.patiently():
            vars(history).update(processes.of(0, vars(history)))


class Outcome(IntEnum):
    """How an attempt may end, the worst last."""

    FINE = 0
    PERHAPS_NO_MEMORY = 1
    NO_MEMORY = 2
    FAILED = 3


def worst_outcome(processes: Processes, fault: Exception | None) -> Outcome:
    """Return how an attempt ended in the process where it ended worst; this one had this `fault`."""
    return Outcome(int(processes.most(outcome_of(fault))[0]))


def outcome_of(fault: Exception | None) -> Outcome:
    """Return how an attempt ended that had this fault."""
    if fault and may_be_out_of_memory(fault):
        return Outcome.NO_MEMORY if is_out_of_memory(fault) else Outcome.PERHAPS_NO_MEMORY
    return Outcome.FAILED if fault else Outcome.FINE


def from_any(processes: Processes, value: str) -> str:
    """Return the text that one of the processes has, empty where none has any."""
    speaker = int(processes.most(processes.rank + 1 if value else 0)[0])
    text: str = processes.of(speaker - 1, value) if speaker else ""
    return text


def check_same_weights(processes: Processes, parameters: Sequence[Tensor]) -> None:
    """Raise MygptError unless all processes have the same weights, bit for bit."""
    if processes.count == 1:
        return
    sums = [p.detach().view(torch.int32).sum(dtype=torch.int64) for p in parameters]
    digest = hashlib.sha256(torch.stack(sums).cpu().numpy().tobytes()).hexdigest()
    differs = digest != processes.of(0, digest)
    if process := int(processes.most(processes.rank if differs else 0)[0]):
        raise MygptError(
            f"the model of process {process} is no longer that of process 0",
            "machines of one kind compute the same; on others set MYGPT_CPU to what all of them have",
        )


def share_out(costs: Sequence[float], count: int) -> list[int]:
    """Give each piece of work to one of so many, the largest first to whoever has least; return to whom."""
    loads, owners = [0.0] * count, [0] * len(costs)
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        owners[piece] = loads.index(min(loads))
        loads[owners[piece]] += costs[piece]
    return owners

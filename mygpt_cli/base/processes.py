"""The processes that a run is shared out among: here one alone, which asks nobody.

What several do together is in `training/processes.py`; whoever trains is given either.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mygpt_cli.base.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh


class Processes:
    """One of `count` processes, the number `rank`; `local_count` of them are on this machine.

    All processes call the same methods in the same order; each waits there for the others.
    """

    rank = 0
    count = 1
    local_count = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def rows(self, sequences: int) -> slice:
        """Return which of a step's sequences this process takes; UsageError where they cannot be shared."""
        if sequences % self.count:
            fitting = ", ".join(str(n) for n in range(1, sequences + 1) if sequences % n == 0)
            raise UsageError(
                f"{self.count} processes cannot share out evenly the {sequences} sequences of a step",
                f"the number of processes can be one of {fitting}; a new run can take "
                f"--batch-size {-(-sequences // self.count) * self.count}",
            )
        each = sequences // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def total(self, flat: "Tensor") -> "Tensor":
        """Add up the numbers of all processes, in place; return them."""
        return flat

    def gather(self, flat: "Tensor") -> "list[Tensor]":
        """Return the numbers of each process, as many as here."""
        return [flat]

    def exchange(self, parts: "Sequence[Tensor]", sizes: Sequence[int]) -> "list[Tensor]":
        """Send each process its part, and return what each has sent here, of these sizes; all are flat."""
        return list(parts)

    def mesh(self, device: "torch.device") -> "DeviceMesh":
        """Return all processes as FSDP takes them, to shard a model; UsageError where there is only one."""
        raise UsageError(
            "--shard splits the model among several processes, and there is only one",
            "start several with --processes N or torchrun, or give --no-shard",
        )

    def most(self, *numbers: float) -> list[float]:
        """Return the largest of all processes' numbers, each for itself; they are finite."""
        return list(numbers)

    def of(self, rank: int, value: Any) -> Any:
        """Return what the process of that rank has here, which JSON can hold."""
        return value

    def check_same(self, about: Mapping[str, Any]) -> None:
        """Raise UsageError, naming what differs, unless all processes have the same here."""

    def check_device(self, device: "torch.device") -> None:
        """Raise UsageError where the processes of this machine cannot compute on such a device."""

    def stepped(self, seconds: float) -> None:
        """Learn how long a step took, and so how long to wait for the others from now on."""

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Meanwhile, wait for the others as long as it takes."""
        yield

    def speaks(self) -> bool:
        """Whether this process tells of the fault that it met: the first of all does."""
        return True

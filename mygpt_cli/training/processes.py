"""Several processes that train one model, started by torchrun on one machine or on many.

Each has the whole model, or a part of it, and takes its share of every step's sequences; gradients are added
up. Numbers in memory travel by gloo, those on a GPU by NCCL.
"""

import json
import os
import pathlib
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.rendezvous import rendezvous

from mygpt_cli import __version__
from mygpt_cli.base.devices import cores
from mygpt_cli.base.errors import LostProcessError, UsageError, is_out_of_memory, join_faults
from mygpt_cli.base.processes import Processes

# How long to wait for the others in a step: seconds, or so many steps where that is longer.
SOON, STEPS = 25.0, 5.0
SAVING = timedelta(minutes=15)  # while the first one saves, or some validate
LATE = timedelta(days=2)  # before training, when one may tokenize or compile
JOINING = timedelta(minutes=10)
# Of torchrun. The order of the first is that of `Connected`.
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Connected(Processes):
    """One process of several that are connected; raises LostProcessError when another is gone.

    A process that ends is missed at once, one whose machine dies without a word after SOON.
    """

    def __init__(self, rank: int, count: int, local_rank: int, local_count: int) -> None:
        self.rank, self.count, self.local_count = rank, count, local_count
        on_gpu = torch.cuda.is_available() and dist.is_nccl_available()
        if on_gpu and local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)
        with _missing(), _silent():
            self._store, *_ = next(rendezvous("env://", rank, count, timeout=JOINING))
            dist.init_process_group("gloo", store=self._store, rank=rank, world_size=count, timeout=LATE)
            # By then all have agreed that they are there.
            self._gpus = dist.new_group(backend="nccl", timeout=timedelta(seconds=SOON)) if on_gpu else None
        self._group = self._patient = dist.group.WORLD
        self._steps = 0

    def total(self, flat: Tensor) -> Tensor:
        """Add up the numbers of all processes, in place; return them. The same count gives the same bits."""
        with _missing():
            dist.all_reduce(flat, dist.ReduceOp.SUM, self._group_for(flat))
        return flat

    def gather(self, flat: Tensor) -> list[Tensor]:
        """Return the numbers of each process, as many as here."""
        parts = [torch.empty_like(flat) for _ in range(self.count)]
        with _missing():
            dist.all_gather(parts, flat, self._group_for(flat))
        return parts

    def exchange(self, parts: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Send each process its part, and return what each has sent here, of these sizes; all are flat."""
        sent = torch.cat(list(parts))
        received = sent.new_empty(sum(sizes))
        with _missing():
            dist.all_to_all_single(
                received, sent, list(sizes), [part.numel() for part in parts], group=self._group_for(sent)
            )
        return list(torch.split(received, list(sizes)))

    def mesh(self, device: torch.device) -> DeviceMesh:
        """Return all processes as FSDP takes them, to shard a model onto such a device."""
        with _missing(), _silent():
            if device.type == "cuda" and self._gpus:
                return DeviceMesh.from_group(self._gpus, "cuda")
            # FSDP keeps the group, and with it the patience, that it begins with.
            return DeviceMesh.from_group(dist.new_group(backend="gloo", timeout=SAVING), device.type)

    def most(self, *numbers: float) -> list[float]:
        """Return the largest of all processes' numbers, each for itself; they are finite."""
        together = torch.tensor(numbers, dtype=torch.float64)
        with _missing():
            dist.all_reduce(together, dist.ReduceOp.MAX, self._group)
        return list(map(float, together))

    def of(self, rank: int, value: Any) -> Any:
        """Return what the process of that rank has here, which JSON can hold."""
        text = json.dumps(value if rank == self.rank else None).encode()
        size = torch.tensor(len(text))
        with _missing():
            dist.broadcast(size, rank, self._group)
            letters = torch.zeros(int(size), dtype=torch.uint8)
            if rank == self.rank:
                letters = torch.frombuffer(bytearray(text), dtype=torch.uint8)
            dist.broadcast(letters, rank, self._group)
        return json.loads(letters.numpy().tobytes())

    def check_same(self, about: Mapping[str, Any]) -> None:
        """Raise UsageError, naming what differs, unless all processes have the same here."""
        mine = json.loads(json.dumps({"mygpt": __version__, "torch": str(torch.__version__), **about}))
        first = self.of(0, mine)
        faults = [
            f"{name}: {mine.get(name, 'unset')} in process {self.rank}, on {platform.node()}, "
            f"and {first.get(name, 'unset')} in process 0"
            for name in sorted(mine.keys() | first.keys())
            if mine.get(name) != first.get(name)
        ]
        differing = int(self.most(self.rank if faults else 0)[0])
        if differing:
            raise UsageError(
                "the processes of a run must be alike, but "
                + join_faults(self.of(differing, faults), "differ"),
                "start them all with the same command, versions and text",
            )

    def check_device(self, device: torch.device) -> None:
        """Raise UsageError where the processes of this machine cannot compute on such a device."""
        if device.type == "mps":
            raise UsageError(
                "several processes cannot share an Apple GPU", "give --device cpu, or one process"
            )
        if device.type == "cuda" and torch.cuda.device_count() < self.local_count:
            raise UsageError(
                f"there are {self.local_count} processes on {platform.node()} and "
                f"{torch.cuda.device_count()} GPUs",
                "start a process for each GPU, or give --device cpu",
            )

    def stepped(self, seconds: float) -> None:
        """From the second step on, which compiles nothing, the others are soon where this one is."""
        self._steps += 1
        if self._steps == 2:
            limit = timedelta(seconds=max(SOON, STEPS * self.most(seconds)[0]))
            with _missing(), _silent():
                self._group = dist.new_group(backend="gloo", timeout=limit)
                self._patient = dist.new_group(backend="gloo", timeout=max(SAVING, limit))

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Meanwhile, wait for the others as long as it takes."""
        before, self._group = self._group, self._patient
        try:
            yield
        finally:
            self._group = before

    def speaks(self) -> bool:
        """Whether this process tells of the fault that it met: the first of all does."""
        try:
            return int(self._store.add("mygpt/faults", 1)) == 1
        except RuntimeError:  # the machine that kept count is gone
            return True

    def close(self) -> None:
        """Part from the others."""
        dist.destroy_process_group()

    def _group_for(self, tensor: Tensor) -> dist.ProcessGroup | None:
        return self._gpus if tensor.is_cuda else self._group


@contextmanager
def _missing() -> Iterator[None]:
    """Turn what torch raises when a process cannot be reached into LostProcessError."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise _lost() from error


def check_connection(error: Exception) -> None:
    """Raise LostProcessError where an error means that another process cannot be reached."""
    if isinstance(error, dist.DistError) or "gloo" in str(error):
        raise _lost() from error


def _lost() -> LostProcessError:
    return LostProcessError(
        "another process of this run has ended, or cannot be reached", "nothing was saved yet"
    )


@contextmanager
def _silent() -> Iterator[None]:
    """Keep stdout for results: gloo of torch 2.9 writes there that it connects."""
    if sys.stdout:
        sys.stdout.flush()
    try:
        stdout = os.dup(1)
    except OSError:  # there is none
        yield
        return
    with pathlib.Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


@contextmanager
def connect(environment: Mapping[str, str]) -> Iterator[Connected]:
    """Join the processes that torchrun started together with this one, as its variables say, and part again.

    The processes of a machine share out its cores, where torchrun gives each a single thread unasked. Raises
    UsageError where a variable is missing, LostProcessError where the others do not come.
    """
    if missing := [name for name in VARIABLES if not environment.get(name)]:
        raise UsageError(f"torchrun sets {', '.join(missing)}, but not here", "start processes with torchrun")
    numbers = [int(environment[name]) for name in VARIABLES[:4]]
    if environment.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, cores() // numbers[3]))
    processes = Connected(*numbers)
    yield processes
    processes.close()  # after a fault, the connection's end tells the others

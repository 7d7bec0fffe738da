"""Several processes for one run: started here on one machine by torch's launcher, or joined from torchrun."""

import contextlib
import logging
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path

import typer

from mygpt_cli.base.errors import MygptError, ResourceError, UsageError
from mygpt_cli.base.processes import Processes

TOLD = "_MYGPT_TOLD"  # a variable: the file that a process makes when it tells what went wrong
BY_SIGNAL = 128  # and more: the exit codes of what a signal ended in good order


def are_launched(environment: Mapping[str, str]) -> bool:
    """Whether torchrun has started this process, and others with it."""
    return environment.get("WORLD_SIZE", "1") != "1"


def launch(arguments: Sequence[str], count: int, environment: MutableMapping[str, str]) -> int:
    """Run `mygpt` with these arguments in so many processes; return the exit code, once all have ended.

    Signals are passed on. Raises MygptError where processes were killed and none was left to tell.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.ERROR)  # the launcher's: mygpt says itself what goes wrong
    environment.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does: the processes share out the cores
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder),  # would otherwise leave a folder behind
        )
        told = Path(folder, "told")
        environment[TOLD] = str(told)
        try:
            elastic_launch(config, sys.executable)("-m", "mygpt_cli", *arguments)
        except SignalException as ended:
            return BY_SIGNAL + ended.sigval.value
        except ChildFailedError as fault:
            codes = {rank: failure.exitcode for rank, failure in fault.failures.items()}
            return _exit_code(codes, told=told.exists())
    return 0


def _exit_code(codes: Mapping[int, int], *, told: bool) -> int:
    """Return the exit code that says most; ResourceError where no process has `told` what happened."""
    said = [code for code in codes.values() if 0 < code < BY_SIGNAL]
    if said or told:  # the code of the one that told may not be known
        return max(said, default=1)  # whoever only lost another has 1
    killed = {rank: -code for rank, code in codes.items() if code < 0}
    if not killed:
        return max(codes.values())
    rank, number = next(iter(killed.items()))
    raise ResourceError(
        f"process {rank} was ended by {signal.Signals(number).name}",
        "did memory run out? What was saved can be resumed with --resume",
    )


@contextlib.contextmanager
def joined(environment: Mapping[str, str], asked: int | None) -> Iterator[Processes]:
    """Join the other processes of this run, if there are any; the first that meets a fault tells of it.

    Raises UsageError where there are not as many as were asked for.
    """
    if not are_launched(environment):
        yield Processes()
        return
    if asked not in (None, 1) and str(asked) != environment["WORLD_SIZE"]:
        raise UsageError(
            f"--processes {asked} contradicts torchrun, which started {environment['WORLD_SIZE']}",
            "leave --processes out",
        )
    from mygpt_cli.training.processes import connect

    with connect(environment) as processes:
        try:
            yield processes
        except typer.Exit:
            processes.close()
            raise
        except Exception as error:
            if processes.speaks():
                # The launcher ends all processes as soon as one has ended: not this one, which tells why.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                if TOLD in environment:
                    Path(environment[TOLD]).touch()
                raise
            raise typer.Exit(error.exit_code if isinstance(error, MygptError) else 1) from None

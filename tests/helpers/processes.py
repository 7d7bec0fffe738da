"""Functions that several connected processes call at once, as those that torchrun starts."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mygpt_cli.base.processes import Processes
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens.dataset import Dataset, prepare

LENGTHS = (2, 16, 17, 18, 33, 16 * 5 + 1, 16 * 9, 16 * 13 + 7)  # of tokens, in windows of 16


def dataset_in(folder: Path) -> Dataset:
    """Return the tokens of text.txt in a folder, which that folder keeps."""
    corpus = open_corpus([str(folder / "text.txt")])
    return prepare(corpus, tokenizer="bpe", vocab_size=300, cache=folder / "cache")


def on_processes(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call function(processes, *arguments) in so many; return what each returns, or the error that it raises.

    One that ends without either has returned None.
    """
    if count == 1:
        return [function(Processes(), *arguments)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mygpt_cli.training.processes", function.__module__])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        here, there = context.Pipe(duplex=False)
        variables: dict[str, object] = {
            "RANK": rank,
            "WORLD_SIZE": count,
            "LOCAL_RANK": rank,
            "LOCAL_WORLD_SIZE": count,
        }
        variables |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        environment = {name: str(value) for name, value in variables.items()}
        process = context.Process(target=_call, args=(there, environment, function, arguments))
        process.start()
        there.close()
        started.append((process, here))
    results = []
    for process, here in started:
        try:
            results.append(here.recv() if here.poll(120) else None)
        except EOFError:
            results.append(None)
        process.join(60)
        assert process.exitcode is not None
    return results


def _call(
    answer: Connection, environment: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    from mygpt_cli.training.processes import connect

    os.environ.update(environment)
    try:
        with connect(environment) as processes:
            result = function(processes, *arguments)
        answer.send(result)
    except Exception as error:
        answer.send(error)

"""What a run folder says of itself, read without torch: its events, and whether it is being trained."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.locking import try_lock
from mygpt_cli.base.strict_json import open_ordinary, parse_json
from mygpt_cli.training.events import Corrected, Evaluated, Finished, Noted, Progress, Sampled, Started

METRICS = "metrics.jsonl"
RUN_CONFIG = "config.toml"
LOCK = ".lock"
MOST_EVENTS = 50_000  # that are looked at; default intervals give some hundreds
LONGEST_LINE = 2**16  # bytes
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)  # a run from elsewhere may hold links to what is not its own

Logged = Started | Progress | Corrected | Evaluated | Sampled | Noted | Finished
FIELDS = {"event"}.union(*({field.name for field in fields(kind)} for kind in get_args(Logged)))


def is_running(folder: Path) -> bool:
    """Whether a process holds the run right now; looking does not get in its way."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | NO_LINKS | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return not try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the events of a run, the newest MOST_EVENTS; what is no event is left out."""
    try:
        return list(deque(map(_known, events(folder / METRICS)), MOST_EVENTS))
    except OSError:
        return []


def events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a file, one at a time; lines cut off by a crash, and what else is none, are not."""
    with open_ordinary(path) as file:
        while line := file.readline(LONGEST_LINE):
            with contextlib.suppress(CheckpointError):
                event = parse_json(line, METRICS)
                if type(event.get("step")) is int and isinstance(event.get("event"), str):
                    yield event


def _known(event: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of an event what mygpt may have written."""
    return {name: v for name, v in event.items() if name in FIELDS and not isinstance(v, list | dict)}

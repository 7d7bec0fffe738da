"""What happens before the command line is read."""

import os
import time
from pathlib import Path

import pytest

from mygpt_cli import __main__ as main
from mygpt_cli.__main__ import BRIEFLY, wait_briefly


@pytest.mark.parametrize("crowded", [False, True])
def test_threads_wait_briefly_beside_other_work(monkeypatch: pytest.MonkeyPatch, crowded: bool) -> None:
    monkeypatch.setattr(main, "_crowded", lambda: crowded)
    environment: dict[str, str] = {}
    wait_briefly(environment)
    assert environment == ({"GOMP_SPINCOUNT": BRIEFLY} if crowded else {})
    for said in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5"}, {"OMP_NUM_THREADS": "1"}):
        told = dict(said)
        wait_briefly(told)
        assert told == said


@pytest.mark.parametrize(
    ("running", "allowed", "processors", "crowded"),
    [
        (1, 2, 2, False),  # this process alone
        (2, 2, 2, True),  # and another one
        (3, 2, 4, False),  # two others have two processors for themselves
        (4, 2, 4, True),
        (1, 1, 1, False),
        (2, 1, 8, False),
        (9, 1, 8, True),
    ],
)
def test_other_work_is_seen(
    monkeypatch: pytest.MonkeyPatch, running: int, allowed: int, processors: int, crowded: bool
) -> None:
    """As Linux tells of it: how many run, this one included, of how many there are."""
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: f"0.52 0.58 0.59 {running}/389 12345\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(allowed)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert main._crowded() == crowded


def test_where_nothing_tells_of_other_work_none_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, encoding: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert not main._crowded()


@pytest.mark.skipif(not Path("/proc/loadavg").exists(), reason="only Linux tells")
def test_what_linux_tells_can_be_read() -> None:
    """The fourth field, as proc(5) has it: how many threads can run, of how many there are."""
    running, threads = Path("/proc/loadavg").read_text(encoding="utf-8").split()[3].split("/")
    assert 1 <= int(running) <= int(threads)


def test_a_moment_of_other_work_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([True, False, True])
    monkeypatch.setattr(main, "_crowded", lambda: next(looks))
    environment: dict[str, str] = {}
    wait_briefly(environment)
    assert environment == {}

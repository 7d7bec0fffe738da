"""What happens before the command line is read."""

import os
import subprocess
import sys
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


@pytest.mark.skipif(not Path("/proc/loadavg").exists(), reason="only Linux tells")
def test_other_work_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: len(os.sched_getaffinity(0)))
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as busy:
        assert busy.stdout
        busy.stdout.readline()
        try:
            assert any(main._crowded() for _ in range(100))
        finally:
            busy.kill()

"""`mygpt runs`, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mygpt_cli.cli.app import run
from tests.conftest import Command


def test_runs_are_listed_where_they_are(mygpt: Command, cycle_run: Path) -> None:
    folder = cycle_run.parents[1]
    done = mygpt("runs", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    assert "cycle-001" in done.stdout.decode()
    assert "cycle.txt" in done.stdout.decode()
    for where in ((), ("checkpoints",), (folder / "checkpoints",)):
        record = json.loads(mygpt("runs", *where, "--json", cwd=folder).stdout)
        assert (record["name"], record["state"], record["step"]) == ("cycle-001", "done", 400)
    assert mygpt("runs", "--json", env={"MYGPT_OUT": str(cycle_run.parent)}).stdout


def test_no_runs_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["runs"]) == 0
    assert "there are no runs in checkpoints yet" in " ".join(capsys.readouterr().err.split())


def test_runs_need_no_torch(cycle_run: Path) -> None:
    """So that the list comes at once."""
    program = (
        "import sys; from mygpt_cli.cli.app import run;"
        f"sys.exit(run(['runs', {str(cycle_run.parent)!r}]) or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0

"""Runs on several processes, as a user starts, interrupts and loses them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mygpt_cli.base.errors import ResourceError
from mygpt_cli.checkpoints.checkpoint import load
from mygpt_cli.cli.app import run
from mygpt_cli.cli.launch import _exit_code, are_launched, joined
from tests.conftest import Command

BIN = Path(sys.executable).parent
TINY = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "16", "--batch-size", "4"]
TINY += ["--dtype", "float32", "--dropout", "0.1", "--log-every", "1"]
LONG = ["--save-every", "5", "--eval-every", "100000", "--json"]


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to an empty folder with a text file in it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n} and {n} make {2 * n}.\n" for n in range(300)), encoding="utf-8")
    return path


def metrics(name: str, event: str, value: str) -> list[Any]:
    lines = Path(f"checkpoints/{name}/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record[value] for record in map(json.loads, lines) if record["event"] == event]


def test_processes_share_out_a_run_that_one_can_go_on_with(
    mygpt: Command, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["train", "text.txt", *TINY, "--steps", "20"]
    assert run([*arguments, "--name", "one", "--quiet"]) == 0
    temporary = text.with_name("temporary")
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    done = mygpt(*arguments, "--name", "two", "--processes", 2, cwd=text.parent)
    assert (done.returncode, done.stdout) == (0, b"checkpoints/two-001\n"), done.stderr.decode()
    assert done.stderr.decode().count("validate  step 20") == 1
    assert not list(temporary.iterdir())
    assert run(["train", "--resume", "two-001", "--steps", "30", "--quiet"]) == 0
    assert run(["train", "--resume", "one-001", "--steps", "30", "--quiet"]) == 0
    assert len(metrics("one-001", "progress", "loss")) == 30
    for event, value in (("progress", "loss"), ("progress", "grad_norm"), ("evaluated", "val_loss")):
        one, two = (metrics(name, event, value) for name in ("one-001", "two-001"))
        assert two == pytest.approx(one, abs=1e-4)


def test_a_sharded_run_is_saved_whole_and_goes_on_with_any_number(
    mygpt: Command, text: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "text.txt", *TINY, "--batch-size", "6", "--steps", "6", "--name"]
    assert run([*arguments, "one", "--quiet"]) == 0
    done = mygpt(*arguments, "parts", "--shard", "--processes", 2, cwd=text.parent)
    assert (done.returncode, done.stdout) == (0, b"checkpoints/parts-001\n"), done.stderr.decode()
    assert done.stderr.decode().count("validate  step 6") == 1
    one, parts = (load(f"checkpoints/{name}") for name in ("one-001", "parts-001"))
    for name, weights in one.model.state_dict().items():
        assert torch.allclose(parts.model.state_dict()[name], weights, atol=1e-3), name
    capfd.readouterr()
    again = ["train", "--resume", "parts-001", "--steps"]
    assert run([*again, "12", "--quiet"]) == 2
    told = capfd.readouterr().err
    assert "error: --shard splits the model among several processes, and there is only one" in told
    assert "start several with --processes N or torchrun, or give --no-shard" in told
    assert run([*again, "12", "--no-shard", "--quiet"]) == 0
    done = mygpt(*again, 18, "--shard", "--processes", 3, cwd=text.parent)
    assert (done.returncode, done.stdout) == (0, b"checkpoints/parts-001\n"), done.stderr.decode()
    for steps in ("12", "18"):
        assert run(["train", "--resume", "one-001", "--steps", steps, "--quiet"]) == 0
    assert len(metrics("one-001", "progress", "loss")) == 18
    for event, value in (("progress", "loss"), ("progress", "grad_norm"), ("evaluated", "val_loss")):
        expected, found = (metrics(name, event, value) for name in ("one-001", "parts-001"))
        assert found == pytest.approx(expected, abs=1e-4)


def started(text: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Start a long run, and wait until it has saved."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [str(BIN / "mygpt"), "train", "text.txt", *TINY, "--steps", "100000", *LONG, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=text.parent,
        env=environment,
    )
    assert process.stdout
    for line in process.stdout:
        if json.loads(line)["event"] == "saved":
            break
    return process


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes that another has started, by their ranks."""
    ids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    ranks = {}
    for number in map(int, ids):
        variables = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        rank = [value.removeprefix(b"RANK=") for value in variables if value.startswith(b"RANK=")]
        ranks.update({int(text): number for text in rank})
    return [ranks[rank] for rank in sorted(ranks)]


linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")


@linux
def test_a_process_that_is_killed_ends_all_with_one_error(text: Path) -> None:
    process = started(text, "--processes", "2")
    began = time.monotonic()
    os.kill(children(process)[1], signal.SIGKILL)
    told = process.communicate(timeout=60)[1].decode()
    assert time.monotonic() - began < 60
    assert process.returncode == 1, told
    assert told.count("error: ") == 1
    assert "error: another process of this run has ended, or cannot be reached" in told
    assert "`mygpt train --resume checkpoints/text-001` resumes from what was saved" in told
    resumes("text-001")


@linux
def test_an_interrupt_of_the_launcher_saves_once(mygpt: Command, text: Path) -> None:
    process = started(text, "--processes", "2")
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 130, told.decode()
    events = [json.loads(line) for line in out.decode().splitlines()]
    assert [event["reason"] for event in events if event["event"] == "finished"] == ["SIGINT"]
    last = max(event["step"] for event in events if event["event"] == "progress")
    assert [e["folder"] for e in events if e["event"] == "saved" and e["step"] == last][-1].endswith("last")
    assert not told
    done = mygpt("train", "--resume", "text-001", "--steps", last + 5, "--processes", 2, cwd=text.parent)
    assert (done.returncode, done.stdout) == (0, b"checkpoints/text-001\n"), done.stderr.decode()
    assert metrics("text-001", "progress", "step") == list(range(1, last + 6))


def resumes(name: str) -> None:
    state = json.loads(Path(f"checkpoints/{name}/last/training_state.json").read_text(encoding="utf-8"))
    assert run(["train", "--resume", name, "--steps", str(state["step"] + 2), "--quiet"]) == 0


@linux
def test_torchrun_with_different_texts_is_refused(text: Path) -> None:
    other = "0 and 0 make nothing.\n" + text.read_text(encoding="utf-8")
    (text.parent / "text1.txt").write_text(other, encoding="utf-8")
    text.rename("text0.txt")
    command = ["-m", "mygpt_cli", "train", *TINY, "--steps", "20", "--out", "runs"]
    program = f"import os, sys; os.execv({sys.executable!r}, [{sys.executable!r}, *{command!r}, "
    Path("start.py").write_text(f"{program}'text' + os.environ['RANK'] + '.txt'])\n", encoding="utf-8")
    done = subprocess.run(
        [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "start.py"],
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1
    told = done.stderr.decode()
    assert told.count("error: ") == 1
    assert "error: the processes of a run must be alike, but the text's fingerprint: " in told
    assert not Path("runs").exists()


def test_exit_codes_of_several_processes() -> None:
    assert _exit_code({0: 5, 1: 1}, told=True) == 5
    assert _exit_code({0: 143, 1: 1}, told=True) == 1
    assert _exit_code({0: 130, 1: 130}, told=False) == 130
    assert _exit_code({1: -9}, told=True) == 1  # the one that told had not ended yet
    with pytest.raises(ResourceError, match="process 1 was ended by SIGKILL"):
        _exit_code({0: 143, 1: -9}, told=False)


def test_one_process_joins_nobody(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not are_launched({})
    with joined({"WORLD_SIZE": "1"}, 1) as processes:
        assert processes.count == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run(["train", "--processes", "2"]) == 2
    assert "--processes 2 contradicts torchrun, which started 4" in capfd.readouterr().err
    assert run(["train", "--processes", "0"]) == 2

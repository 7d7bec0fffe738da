"""`benchmarks/gpu.py` gets few chances to run on a GPU: its parts are tried here on a CPU."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def tried(*arguments: object) -> list[str]:
    """Return the lines of the table."""
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments), "--device", "cpu", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()[2:]


def test_the_parts_give_what_they_promise(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(
        "".join(f"{a} times {b} is {a * b}.\n" for a in range(60) for b in range(60)), encoding="utf-8"
    )
    lines = tried(text, "--parts", "machine", "generation", "training")
    assert len(lines) == 2 + 8 + 2
    assert not [line for line in lines if "FAILED" in line or "left out" in line]
    assert all("of the bandwidth" in line for line in lines if "generation" in line)
    assert all("forward and backward" in line for line in lines if "training" in line)


def test_a_part_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("", encoding="utf-8")
    first, second = tried(text, "--parts", "resumed")
    assert "| two runs alike | FAILED: RuntimeError: exit 4" in first
    assert "| stopped and resumed | FAILED: RuntimeError: the run was to be stopped" in second

"""`python -m benchmarks.reliability.interruptions [--count 10]`: whoever interrupts gets what was done.

SIGINT, SIGTERM and SIGHUP, once and twice, are sent to real training at every stage: before it starts, while
the text is tokenized or the kernels are compiled, during steps and during a save. A terminal is resized again
and again, or closed; the clock is set back. Each time the exit code must be the documented one, nothing may
look like a fault, and the run must go on to the very bits of one that nothing happened to. Linux and macOS.
"""

import argparse
import fcntl
import functools
import os
import pty
import random
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.reliability.commands import (
    LOG,
    TINY,
    become,
    digest,
    ended,
    is_running,
    mygpt,
    said,
    saved_step,
    start,
    step_of,
    wait_for,
    write_text,
)
from benchmarks.reliability.samples import MEMORY, Row, print_table

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STEPS, SAVED_EVERY = 60, 5


class Trial:
    """A folder with a text, the command that trains on it, and how that must end."""

    def __init__(self, parent: Path, lines: int, *settings: object) -> None:
        self.parent = parent
        self.lines = lines
        self.code = 0  # with which the last training that something happened to ended
        self.settings = [*TINY, "--steps", STEPS, "--save-every", SAVED_EVERY, "--eval-every", 20, *settings]
        with tempfile.TemporaryDirectory(dir=parent) as name:
            self.expected = self.end(Path(name), [*self.command(Path(name)), "--quiet"])

    def command(self, folder: Path) -> list[object]:
        """Return the arguments that train in this folder."""
        return ["train", write_text(folder, self.lines), "--name", "run", *self.settings]

    def end(self, folder: Path, arguments: list[object]) -> str:
        """Run a command to its end and return the digest of the run."""
        if mygpt(folder, *arguments):
            raise AssertionError(said(folder))
        return digest(folder / "checkpoints" / "run-001")

    def run(self, act: Callable[..., int], codes: tuple[int, ...], lost: int) -> str:
        """Let something happen to a training that may lose so many steps; return what was wrong."""
        with tempfile.TemporaryDirectory(dir=self.parent) as name:
            folder, run = Path(name), Path(name, "checkpoints", "run-001")
            arguments = self.command(folder)
            try:
                code = self.code = act(folder, arguments)
                if code not in codes:
                    return f"exit {code}: {said(folder)}"
                if "Traceback" in said(folder) or "error:" in said(folder):
                    return said(folder)
                seen = step_of(run)
                if (run / "last").is_dir():
                    if code and saved_step(run / "last") < seen - lost:
                        return f"saved at step {saved_step(run / 'last')} of {seen}"
                    if saved_step(run / "last") == STEPS:
                        return "" if digest(run) == self.expected else "another end"
                    again = ["train", "--resume", run, "--quiet"]
                else:
                    again = [*arguments, "--name", "run", "--quiet"]
                    if run.exists():
                        run.rename(run.with_name("before"))
                return "" if self.end(folder, again) == self.expected else "another end"
            except (AssertionError, TimeoutError) as fault:
                return str(fault)


def signalled(stage: str, number: signal.Signals, times: int, rng: random.Random) -> Callable[..., int]:
    """Return what sends a signal so many times, at a stage of training."""

    def reached(folder: Path) -> bool:
        run = folder / "checkpoints" / "run-001"
        if stage == "a save":
            return (run / "last.new").exists()
        if stage == "tokenizing":
            return any((folder / "cache").glob("*/meta.json"))
        if stage == "compiling":
            return any((folder / "cache" / "kernels").glob("tmp*"))
        return step_of(run) >= wanted

    wanted = rng.randrange(1, STEPS - 5)

    def act(folder: Path, arguments: list[object]) -> int:
        if stage == "compiling":
            return compiling(folder, arguments)
        process = start(folder, *arguments)
        if stage == "the start":
            time.sleep(rng.uniform(0.0, 0.3))
        else:
            wait_for(lambda: reached(folder), process)
        for _ in range(times):
            if is_running(process):
                os.kill(process, number)
            time.sleep(rng.choice((0.0, 0.001, 0.01)))
        return ended(process)

    def compiling(folder: Path, arguments: list[object]) -> int:
        """Signal a process of its own, and its compiler with it, as a terminal does."""
        environment = os.environ | {"MYGPT_CACHE_DIR": str(folder / "cache")}
        with (folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mygpt_cli", *map(str, arguments)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=folder,
                env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            )
            while process.poll() is None and not reached(folder):
                time.sleep(0.001)
            for _ in range(times):
                if process.poll() is None:
                    os.killpg(process.pid, number)
                time.sleep(0.01)
            return process.wait(60)

    return act


def ignore_hanging_up() -> None:
    """Be started with nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def on_terminal(
    harm: Callable[[int, int], None], before: Callable[[], None] = lambda: None
) -> Callable[..., int]:
    """Return what trains on a terminal of its own and does something to that."""

    def act(folder: Path, arguments: list[object]) -> int:
        sys.stdout.flush()
        process, terminal = pty.fork()
        if not process:
            become(folder, arguments, {"TERM": "xterm-256color"}, before)
        with (folder / LOG).open("wb") as log:

            def read() -> None:
                try:
                    while shown := os.read(terminal, 4096):
                        log.write(shown)
                except OSError:
                    return

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            wait_for(lambda: step_of(folder / "checkpoints" / "run-001") >= 2, process)
            harm(process, terminal)
            code = ended(process)
            reader.join(1.0)
        return code

    return act


def resized(process: int, terminal: int) -> None:
    """Give the terminal another size, again and again."""
    rng = random.Random(1)
    while is_running(process):
        size = struct.pack("HHHH", rng.choice((1, 2, 5, 24, 200)), rng.choice((1, 3, 40, 80, 500)), 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
        time.sleep(0.01)


def closed(process: int, terminal: int) -> None:
    """Close the terminal's window."""
    os.close(terminal)


def clock_set_back(folder: Path, arguments: list[object]) -> int:
    """Let every look at the clock of the wall show an hour less than the one before."""

    def set_back() -> None:
        now = time.time()
        looks = iter(range(10**9))
        time.time = lambda: now - 3600.0 * next(looks)

    process = start(folder, *arguments, before=set_back)
    wait_for(lambda: step_of(folder / "checkpoints" / "run-001") >= 9, process)
    os.kill(process, signal.SIGINT)
    return ended(process)


def interruptions(parent: Path, count: int, only: str = "", seed: int = 1) -> dict[str, Row]:
    """Interrupt each kind of moment so many times, or only those with this in their title."""
    rng = random.Random(seed)
    rows: dict[str, Row] = {}
    small = Trial(parent, 300, "--tokenizer", "char")
    large = functools.cache(lambda: Trial(parent, 60_000, "--tokenizer", "bpe", "--vocab-size", "400"))

    def tried(title: str, act: Callable[..., int], *codes: int, what: str = "", lost: int = 0) -> None:
        if only not in title:
            return
        begin = time.perf_counter()
        trial = large() if "tokenizing" in title else small
        why = trial.run(act, codes, lost)
        seconds = time.perf_counter() - begin
        good = "too late" if trial.code == 0 != codes[0] else "as promised"
        rows.setdefault(title, Row()).add("unclean" if why else good, f"{what}: {why}", seconds)

    for number in range(count):
        for stage in ("the start", "tokenizing", "steps", "a save"):
            for sent in SIGNALS:
                times = 1 + number % 2
                # Or the end came first, or the second one while the program was leaving.
                codes = (128 + sent, 0, *([-sent] * (times > 1)))
                what, lost = f"{sent.name}, {times} times", SAVED_EVERY * (times - 1)
                act = signalled(stage, sent, times, rng)
                tried(f"signals in {stage}", act, *codes, what=what, lost=lost)
        sent = SIGNALS[number % 3]
        tried("signals in compiling", signalled("compiling", sent, 1, rng), 128 + sent, what=sent.name)
        tried("terminal resized", on_terminal(resized), 0)
        tried("terminal closed", on_terminal(closed), 128 + signal.SIGHUP, 0)
        tried("terminal closed, nohup", on_terminal(closed, ignore_hanging_up), 0)
        tried("clock set back", clock_set_back, 128 + signal.SIGINT)
    return rows


def main() -> int:
    """Interrupt, and print the table; the exit code is 1 when anything was lost or looked like a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10, help="rounds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="what must be in a row's title")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        rows = interruptions(Path(folder), options.count, options.only, options.seed)
    return print_table(rows, ("as promised", "too late"))


if __name__ == "__main__":
    sys.exit(main())

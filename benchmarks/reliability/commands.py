"""`mygpt` in forked processes: the real command, its files and its signals, and imports only once."""

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mygpt_cli.checkpoints.layout import OPTIMIZER, WEIGHTS
from mygpt_cli.checkpoints.metrics import METRICS
from mygpt_cli.cli.app import run
from mygpt_cli.tokens.dataset import cache_folder

LOG = "said.txt"  # stdout and stderr of the commands in a folder, one after the other
PATIENCE = 120.0  # seconds, after which a process is said to hang
TINY: tuple[str, ...] = (
    "--layers",
    "1",
    "--heads",
    "2",
    "--width",
    "16",
    "--context",
    "16",
    "--batch-size",
    "2",
)
TINY += ("--log-every", "1")
TIMES = ("seconds", "tokens_per_second", "memory")  # fields of events that no two runs share


def write_text(folder: Path, lines: int = 200) -> Path:
    """Write a small text to train on; return its path."""
    path = folder / "text.txt"
    path.write_text("".join(f"{n} and {n} make {2 * n}.\n" for n in range(lines)), encoding="utf-8")
    return path


def start(
    folder: Path,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    before: Callable[[], object] = lambda: None,
) -> int:
    """Start `mygpt` in a folder, after `before` in the new process; return its id. It speaks into LOG."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        output = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.setsid()
        become(folder, arguments, env or {}, before)
    return child


def become(
    folder: Path, arguments: Sequence[object], env: Mapping[str, str], before: Callable[[], object]
) -> NoReturn:
    """Let this forked process be `mygpt`, and end with its exit code."""
    code = 70
    try:
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
            for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        os.chdir(folder)
        use_cache_of(folder)
        os.environ.update(env)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the trials
        before()
        code = run([str(argument) for argument in arguments])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def use_cache_of(folder: Path) -> None:
    """Keep tokens in this folder, and what is compiled where it is."""
    compiled, cache = cache_folder().absolute() / "kernels", folder / "cache"
    compiled.mkdir(parents=True, exist_ok=True)
    if not cache.exists():
        cache.mkdir()
        (cache / "kernels").symlink_to(compiled)
    os.environ["MYGPT_CACHE_DIR"] = str(cache)


def ended(process: int, patience: float = PATIENCE) -> int:
    """Wait for a process; return its exit code, or minus the signal that ended it."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise TimeoutError(f"it hangs: no end after {patience:.0f} s")


def is_running(process: int) -> bool:
    """Whether a process has not ended; one that has can still be waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def mygpt(folder: Path, *arguments: object, **options: Any) -> int:
    """Run `mygpt` in a folder; return its exit code."""
    return ended(start(folder, *arguments, **options))


def wait_for(happened: Callable[[], bool], process: int) -> bool:
    """Wait until something has happened; False when the process ended before."""
    while not happened():
        if not is_running(process):
            return happened()
        time.sleep(0.001)
    return True


def events(run_folder: Path) -> list[dict[str, Any]]:
    """Return what `metrics.jsonl` has so far, without a last line that is being written."""
    with contextlib.suppress(OSError):
        lines = (run_folder / METRICS).read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]
    return []


def step_of(run_folder: Path) -> int:
    """Return the last step that `metrics.jsonl` tells of."""
    return max((event["step"] for event in events(run_folder)), default=0)


def saved_step(checkpoint: Path) -> int:
    """Return the step at which a checkpoint was saved."""
    return int(json.loads((checkpoint / "training_state.json").read_text(encoding="utf-8"))["step"])


def digest(run_folder: Path) -> str:
    """Return the SHA-256 of how a run ended: weights, optimizer, best weights, and metrics without times."""
    found = hashlib.sha256()
    for name in (f"last/{WEIGHTS}", f"last/{OPTIMIZER}", f"best/{WEIGHTS}"):
        found.update((run_folder / name).read_bytes())
    for event in events(run_folder):
        if event["event"] in ("progress", "evaluated"):
            kept = {name: value for name, value in event.items() if name not in TIMES}
            found.update(json.dumps(kept, sort_keys=True).encode())
    return found.hexdigest()


def said(folder: Path) -> str:
    """Return the end of what the commands in a folder said."""
    return (folder / LOG).read_text(errors="replace", encoding="utf-8")[-2000:]

"""`mygpt` and `python -m mygpt_cli`."""

import gc
import os
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path

from mygpt_cli.cli.app import run

BRIEFLY = "4000"  # turns, some tenths of a millisecond
LOOKS = 3
# New objects before Python looks for garbage. Loading torch makes many, and all of them stay.
GARBAGE_AFTER = 10_000


def main() -> None:
    """Run the command line and exit with its code."""
    wait_briefly(os.environ)
    gc.set_threshold(GARBAGE_AFTER)
    code = run(sys.argv[1:])
    gc.freeze()  # at the end Python would look through all of torch for garbage, for a third of a second
    sys.exit(code)


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for each other soon sleep, where other work wants the processors too.

    To be called before torch is loaded. GNU's OpenMP, which torch has on Linux, lets them spin for many
    milliseconds: alone that is fastest, but beside other work they hold the processor that the one they wait
    for could run on, and a training step takes several times as long. What the user has said stands.
    """
    told = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"} & set(environment)
    if not told and all(_crowded() for _ in range(LOOKS)):
        environment["GOMP_SPINCOUNT"] = BRIEFLY


def _crowded() -> bool:
    """Whether more wants to run than there are processors, once this process uses all that it may."""
    try:
        running = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[0])
        wanted = running - 1 + len(os.sched_getaffinity(0))
    except (OSError, AttributeError):  # not Linux
        return False
    time.sleep(0.002)  # what runs for a moment only has ended by the next look
    return wanted > (os.cpu_count() or wanted)


if __name__ == "__main__":
    main()

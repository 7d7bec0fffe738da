"""`mygpt` and `python -m mygpt_cli`."""

import gc
import os
import sys
from collections.abc import MutableMapping

from mygpt_cli.cli.app import run

BRIEFLY = "20000"  # turns, about a millisecond


def main() -> None:
    """Run the command line and exit with its code."""
    wait_briefly(os.environ)
    code = run(sys.argv[1:])
    gc.freeze()  # at the end Python would look through all of torch for garbage, for a third of a second
    sys.exit(code)


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for each other sleep soon, unless the user has said how they are to wait.

    To be called before torch is loaded. GNU's OpenMP, which torch has on Linux, lets them spin for many
    milliseconds: beside other work they then hold the processor that the one they wait for could run on, and
    a training step takes several times as long.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(environment):
        environment["GOMP_SPINCOUNT"] = BRIEFLY


if __name__ == "__main__":
    main()

"""`mygpt` and `python -m mygpt_cli`."""

import gc
import sys

from mygpt_cli.cli.app import run


def main() -> None:
    """Run the command line and exit with its code."""
    code = run(sys.argv[1:])
    gc.freeze()  # at the end Python would look through all of torch for garbage, for a third of a second
    sys.exit(code)


if __name__ == "__main__":
    main()

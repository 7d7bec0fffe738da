"""`python -m benchmarks.reliability.damage [--flips 1000]`: truncations and flipped bits are noticed.

Each file of a small run's `last` is cut off at every length and has single bits flipped. Every time opening
it must be refused with the run's other checkpoint offered.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.reliability.samples import MEMORY, Row, make_run, print_table
from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.checkpoints import checkpoint


def noticed(folder: Path, row: Row, what: str) -> None:
    """Open a damaged checkpoint and count whether that is said."""
    begin = time.perf_counter()
    try:
        checkpoint.load(folder)
        outcome = "unclean"
    except CheckpointError as error:
        outcome = "noticed" if "best is intact" in error.hint else "unclean"
    except Exception as fault:
        outcome, what = "unclean", f"{what}: {type(fault).__name__}: {fault}"
    row.add(outcome, what, time.perf_counter() - begin)


def damage(folder: Path, flips: int, every: int = 1, seed: int = 1) -> dict[str, Row]:
    """Damage every file of a checkpoint in turn; return the counts, by file."""
    rng = random.Random(seed)
    rows = {}
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        row = rows[path.name] = Row()
        for length in range(0, len(whole), every):
            path.write_bytes(whole[:length])
            noticed(folder, row, f"{path.name} cut off at {length}")
        for _ in range(flips):
            at, bit = rng.randrange(len(whole)), rng.randrange(8)
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            noticed(folder, row, f"{path.name}, bit {bit} of byte {at}")
        path.write_bytes(whole)
    return rows


def main() -> int:
    """Do the damage and print the table; the exit code is 1 when any of it went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=1000, help="bits to flip in each file")
    parser.add_argument("--every", type=int, default=1, help="try only every n-th length")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        run = make_run(Path(folder, "run"))
        return print_table(damage(run / "last", options.flips, options.every), ("noticed",))


if __name__ == "__main__":
    sys.exit(main())

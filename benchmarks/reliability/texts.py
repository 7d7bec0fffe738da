"""`python -m benchmarks.reliability.texts [--count 300]`: any bytes can be given as training text.

Random bytes of many kinds, 100 MB in one line, a million times one character, half characters, NULs, files
that change while they are read, pipes and devices are given to `mygpt train`. Each must end in a model, or in
a clear error about the text, in bounded time and memory. Linux and macOS.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.reliability.commands import LOG, TINY, start
from benchmarks.reliability.samples import MEMORY, Row, print_table

SECONDS, MEGABYTES = 120, 1500
PIECES: list[bytes] = [
    *(
        b"\x00",
        b"\xff",
        b"\x80",
        b"\xed\xa0\x80",
        b"\xed\xb0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc0\x80",
        b"\xf0\x9f",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"%PDF-",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"\x89PNG\r\n",
        b"\x1b[2J",
    ),
    *(b"\n", b"\r\n", b"\r", b" ", b"\t", b"a", b"the cat ", b"1234567890", b"<|endoftext|>", b"[/bold]"),
    *(
        s.encode()
        for s in ("é", "中文", "😀", "e\u0301", "\u202e", "\u2028", "\U0010ffff", "\ufffe", "\u200d", "İ")
    ),
]
ONES = [
    "a",
    " ",
    "\n",
    "0",
    "é",
    "中",
    "😀",
    "\u0301",
    "\u202e",
    "\ufeff",
    "\x1b",
    "\x00",
    "\u200d",
    "\r",
    "'",
]


def random_bytes(rng: random.Random) -> bytes:
    """Return a file of some kind between text and noise."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.choice((0, 1, 2, 3, 50, 5000)))
    pieces = PIECES if kind == 1 else rng.sample(PIECES, 3)
    if kind == 3:  # nothing but text
        pieces = PIECES[-20:]
    return b"".join(rng.choices(pieces, k=rng.choice((1, 2, 5, 40, 3000))))


def measured(process: int) -> tuple[int, int]:
    """Wait for a process; return its exit code and its peak of memory in bytes."""
    timer = threading.Timer(2 * SECONDS, os.kill, (process, 9))
    timer.start()
    _, status, usage = os.wait4(process, 0)
    timer.cancel()
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def tried(
    folder: Path, row: Row, what: str, *source: object, meanwhile: Callable[[], object] | None = None
) -> None:
    """Train on a source, with something going on beside it; count what came of it."""
    (folder / LOG).unlink(missing_ok=True)
    begin = time.perf_counter()
    process = start(folder, "train", *source, *TINY, "--steps", 2, "--quiet", "--name", "run")
    if meanwhile:
        threading.Thread(target=meanwhile, daemon=True).start()
    code, memory = measured(process)
    seconds = time.perf_counter() - begin
    told = (folder / LOG).read_text(errors="replace", encoding="utf-8")
    clear = code == 0 or (
        code in (2, 4) and "error: " in told and "hint: " in told and "Traceback" not in told
    )
    bounded = seconds < SECONDS and memory < MEGABYTES * 2**20
    outcome = ("a model" if code == 0 else "an error") if clear and bounded else "unclean"
    row.add(outcome, f"{what}: exit {code}: {told}", seconds, memory)


def large(folder: Path, rows: dict[str, Row], megabytes: int) -> None:
    """Try what is long without an end of line, and what is always the same."""
    path = folder / "large.txt"
    with path.open("w", encoding="utf-8") as file:
        for number in range(megabytes):
            file.write("".join(f"{number * 37 + n} cats sat on {n} mats; " for n in range(40_000))[: 10**6])
    for spec in ("bpe", "char"):
        tried(folder, rows["one long line"], spec, path, "--tokenizer", spec, "--val-fraction", 0.001)
    for one in ONES:
        path.write_text(one * 10**6, encoding="utf-8")
        for spec in ("bpe", "char"):
            tried(folder, rows["a million times one"], f"{one!r}, {spec}", path, "--tokenizer", spec)


def changing(folder: Path, rows: dict[str, Row], count: int, rng: random.Random) -> None:
    """Try files that grow, shrink, change or vanish while they are read."""
    for number in range(count):
        path = folder / f"changing-{number}.txt"
        path.write_text("".join(f"{n} and {n} make {2 * n}.\n" for n in range(200_000)), encoding="utf-8")

        def change(path: Path = path, how: int = number % 4, wait: float = rng.uniform(0, 1)) -> None:
            time.sleep(wait)
            if how == 0:
                with path.open("a", encoding="utf-8") as file:
                    file.write("more\n" * 1000)
            elif how == 1:
                os.truncate(path, 1000)
            elif how == 2:
                path.write_bytes(b"\xff\x00" * 10**5)
            else:
                path.unlink()

        tried(folder, rows["changing"], f"{number % 4}", path, meanwhile=change)


def special(folder: Path, rows: dict[str, Row]) -> None:
    """Try pipes, devices, folders in circles and what is not there."""
    row = rows["pipes and devices"]
    for device in ("/dev/null", "/dev/zero", "/dev/random", "/dev/full", "/dev/tty", "/dev/stdin", "-"):
        tried(folder, row, device, device)
    for name, content in (("good", b"A cat and a mat. " * 99), ("bad", b"\xff" * 99), ("none", b"")):
        pipe = folder / f"{name}.pipe"
        os.mkfifo(pipe)
        tried(folder, row, name, pipe, meanwhile=lambda p=pipe, c=content: p.write_bytes(c))  # type: ignore[misc]
    circle = folder / "circle"
    circle.mkdir()
    (circle / "again").symlink_to(circle)
    (circle / "self.txt").symlink_to("self.txt")
    os.mkfifo(circle / "nobody.pipe")
    tried(folder, row, "a folder in a circle", circle)
    tried(folder, row, "a link to itself", circle / "self.txt")
    tried(folder, row, "a name too long", "x" * 5000)
    tried(folder, row, "a name with a NUL", "a\x00b")


def texts(parent: Path, count: int, seed: int = 1, megabytes: int = 100) -> dict[str, Row]:
    """Try so many random files, and all that is special."""
    rng = random.Random(seed)
    names = ("random bytes", "one long line", "a million times one", "changing", "pipes and devices")
    rows = {name: Row() for name in names}
    for number in range(count):
        with tempfile.TemporaryDirectory(dir=parent) as name:
            path = Path(name, "text.txt")
            path.write_bytes(random_bytes(rng))
            spec, errors = rng.choice(("bpe", "char")), rng.choice(("strict", "replace"))
            flags = ("--tokenizer", spec, "--errors", errors)
            tried(Path(name), rows["random bytes"], f"{seed}, {number}", path, *flags)
    with tempfile.TemporaryDirectory(dir=parent) as name:
        special(Path(name), rows)
        if megabytes:
            changing(Path(name), rows, 20, rng)
            large(Path(name), rows, megabytes)
    return rows


def main() -> int:
    """Try the texts and print the table; the exit code is 1 when anything was unclear or unbounded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="random files")
    parser.add_argument(
        "--megabytes", type=int, default=100, help="in one line; 0 leaves all large files out"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        rows = texts(Path(folder), options.count, options.seed, options.megabytes)
    return print_table(rows, ("a model", "an error"))


if __name__ == "__main__":
    sys.exit(main())

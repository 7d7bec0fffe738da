"""`python -m benchmarks.text_scale [--size 1GB]`: how long `mygpt train` takes to start on a large text.

The text is made of Python's own library, its lines in ever new order and one letter in a hundred replaced, so
that words go on being new. Beside it, tiktoken encodes the same text with the same vocabulary on one thread.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import tiktoken
from rich.console import Console
from rich.table import Table

from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.tokenizer_json import BytePairVocabulary

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
BASELINE = 100_000_000  # characters of text that tiktoken alone is given
OF_TEXT = ("reading the text", "learning the vocabulary", "tokenizing")
LETTERS = ord("a"), ord("z") + 1


def number_of_bytes(text: str) -> int:
    """Read a size such as 50MB."""
    match = re.fullmatch(r"(\d+)(KB|MB|GB)", text.upper())
    if not match:
        raise argparse.ArgumentTypeError("a size is a number and KB, MB or GB, such as 50MB")
    return int(match[1]) * UNITS[match[2]]


def make_text(path: Path, size: int) -> None:
    """Write `size` bytes of UTF-8 that are always the same on the same Python."""
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    lines = b"".join(source.read_bytes() for source in sources).splitlines(keepends=True)
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        while (room := size - file.tell()) > 0:
            shuffled = b"".join(lines[i] for i in random.permutation(len(lines)))
            text = np.frombuffer(shuffled[:room].decode(errors="ignore").encode(), np.uint8).copy()
            places = random.integers(len(text), size=len(text) // 100)
            places = places[(text[places] >= LETTERS[0]) & (text[places] < LETTERS[1])]
            text[places] = random.integers(*LETTERS, size=len(places))
            file.write(text.tobytes().ljust(min(room, len(shuffled)), b"\n"))


def run_command(path: Path, folder: Path) -> tuple[dict[str, float], Path]:
    """Train ten steps with the command; return the seconds of each stage, in order, and the run's folder."""
    command = [sys.executable, "-m", "mygpt_cli", "train", str(path), "--json", "--out", str(folder / "runs")]
    # Most of the text trains, and the model is small: what the text costs is to be seen.
    command += ["--steps", "10", "--log-every", "1", "--val-fraction", "0.0001"]
    command += ["--layers", "2", "--width", "64", "--context", "64", "--batch-size", "8"]
    environment = {**os.environ, "MYGPT_CACHE_DIR": str(folder / "cache")}
    stages = [("starting", time.perf_counter())]
    run = None
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout
        for line in process.stdout:
            event = json.loads(line)
            now = time.perf_counter()
            if event["event"] == "preparing":
                # The two parts of the text are one stage.
                stages.append((re.sub("tokenizing.*", "tokenizing", event["what"]), now))
            elif event["event"] == "text":
                stages.append(("loading torch", now))
            elif event["event"] == "progress" and event["step"] == 1:
                stages.append(("training", now))
            elif event["event"] == "run":
                run = Path(event["folder"])
    if process.returncode or run is None:
        raise SystemExit(f"the command failed with exit code {process.returncode}")
    seconds: dict[str, float] = {}
    for (stage, start), (_, stop) in pairwise(stages):
        seconds[stage] = seconds.get(stage, 0.0) + stop - start
    return seconds, run


def tiktoken_speed(path: Path, vocabulary: BytePairVocabulary) -> float:
    """Return the bytes per second of tiktoken's plain encoding, on one thread, a megabyte at a time."""
    ranks = dict(vocabulary.ranks)
    encoding = tiktoken.Encoding(
        "baseline", pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={}
    )
    size, seconds = 0, 0.0
    with path.open(encoding="utf-8") as file:
        while size < BASELINE and (text := file.read(1 << 20)):
            started = time.perf_counter()
            encoding.encode_ordinary(text)
            seconds += time.perf_counter() - started
            size += len(text.encode())
    return size / seconds


def main() -> None:
    """Measure, print one table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=number_of_bytes, default="1GB", help="how much text (1GB)")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        make_text(text, arguments.size)
        stages, run = run_command(text, folder)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )
        tokenizer = load_tokenizer(run / "last")
        assert isinstance(tokenizer.vocabulary, BytePairVocabulary)
        baseline = tiktoken_speed(text, tokenizer.vocabulary)

    table = Table(title=f"{arguments.size / 1e6:,.0f} MB of text, until the first step has been taken")
    for column in ("stage", "seconds", "MB/s", "ratio"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, seconds in stages.items():
        speed = arguments.size / seconds
        of_text = (f"{speed / 1e6:,.1f}", f"{speed / baseline:.2f}") if stage in OF_TEXT else ()
        table.add_row(stage, f"{seconds:.1f}", *of_text)
    table.add_row("all of it", f"{sum(stages.values()):.1f}")
    table.add_row(
        "tiktoken alone, one thread", f"{arguments.size / baseline:.1f}", f"{baseline / 1e6:.1f}", "1.00"
    )
    console = Console()
    console.print(table)
    console.print(f"{tokenizer.vocab_size:,} tokens; peak memory {peak / 1e6:,.0f} MB")
    if arguments.json:
        results = {
            "bytes": arguments.size,
            "vocab_size": tokenizer.vocab_size,
            "seconds": stages,
            "tiktoken_bytes_per_second": baseline,
            "peak_bytes": peak,
        }
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()

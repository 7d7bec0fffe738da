"""`python -m benchmarks.ablations FLAGS…`: sets of flags against each other on the same texts and seeds.

    python -m benchmarks.ablations "--steps 700" "--steps 700 --weight-decay 0.4" --seeds 1 2
    python -m benchmarks.ablations "--time 60s --arch llama" "--time 60s --arch qwen3" --files a.txt b.txt

Each set of flags is one argument, as `mygpt train` takes them; they take turns, so that a machine that
becomes slower is so for all. Without `--files` the text is the language reference that comes with Python. Of
each text the first `--characters` are taken.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.train_quality import run_default
from mygpt_cli.text.corpus import open_corpus


def cut(path: Path | None, characters: int | None, folder: Path) -> Path:
    """Return a file with the first characters of a text."""
    if path and characters is None:
        return path
    corpus = open_corpus([str(path)] if path else [], val_fraction=1e-9)
    text = "".join(chunk.text for part in (corpus.train, corpus.val) for chunk in part.chunks())
    copy = folder / (path.name if path else "reference.txt")
    copy.write_text(text[: characters or 100_000], encoding="utf-8")
    return copy


def table_of(results: Sequence[dict[str, Any]]) -> Table:
    """Return the losses of each set of flags, text by text, and the mean of the texts beside the first's."""
    sets = list(dict.fromkeys(result["flags"] for result in results))
    texts = list(dict.fromkeys(result["text"] for result in results))
    table = Table(title="Validation loss, nats per character: each seed, and their mean")
    for column in ("flags", *texts, "all, beside the first", "seconds"):
        table.add_column(column, justify="left" if column == "flags" else "right")
    means: dict[str, list[float]] = {}
    for flags in sets:
        own = [result for result in results if result["flags"] == flags]
        cells = []
        for text in texts:
            losses = [result["nats_per_character"] for result in own if result["text"] == text]
            means.setdefault(flags, []).append(statistics.mean(losses))
            each = f" ({', '.join(f'{loss:.4f}' for loss in losses)})" if len(losses) > 1 else ""
            cells.append(f"{means[flags][-1]:.4f}{each}")
        pairs = zip(means[flags], means[sets[0]], strict=True)
        ratio = statistics.geometric_mean([loss / first for loss, first in pairs])
        seconds = statistics.mean(result["seconds"] for result in own)
        table.add_row(flags, *cells, f"{ratio - 1:+.2%}", f"{seconds:.0f}")
    return table


def main() -> None:
    """Train with each set of flags, each seed and on each text, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("flags", nargs="+")
    parser.add_argument("--files", type=Path, nargs="+", default=[None])
    parser.add_argument("--characters", type=int, help="of each text; of the reference 100,000")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337])
    arguments, rest = parser.parse_known_args()
    if rest:
        parser.error(f"put a set of flags into quotes: {' '.join(rest)}")
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [cut(path, arguments.characters, Path(folder)) for path in arguments.files]
        for seed in arguments.seeds:
            for path in paths:
                for flags in arguments.flags:
                    result = run_default(path, None, *shlex.split(flags), "--seed", str(seed))
                    results.append({"flags": flags, "text": path.name, "seed": seed, **result})
                    print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    Console().print(table_of(results))


if __name__ == "__main__":
    main()

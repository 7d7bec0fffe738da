"""`python -m benchmarks.counting FILE…`: what counting predicts, to compare a model of few letters with.

For each number of characters before, it counts in the training text how often each character follows them,
and adds a little to each count, so that what was never seen is possible. Which number of characters and how
little is best is chosen on the validation text itself, to the advantage of counting.
"""

import argparse
import math
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mygpt_cli.text.corpus import open_corpus

MOST = 8  # characters before
ADDED = (1 / 16, 1 / 4, 1, 4, 16)  # to each count


def bits_per_character(learned: str, rest: str, before: int) -> float:
    """Return the mean bits of the characters of `rest`, with what suits it best added to the counts."""
    letters = len(set(learned + rest))
    pairs = Counter(learned[at : at + before + 1] for at in range(len(learned) - before))
    contexts = Counter(learned[at : at + before] for at in range(len(learned) - before))
    text = learned[len(learned) - before :] + rest
    seen = Counter(text[at : at + before + 1] for at in range(len(rest)))

    def bits(added: float) -> float:
        return sum(
            times * -math.log2((pairs[pair] + added) / (contexts[pair[:-1]] + letters * added))
            for pair, times in seen.items()
        )

    return min(map(bits, ADDED)) / len(rest)


def main() -> None:
    """Print a line for each text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+")
    table = Table(title="How often each character follows those before it")
    for column in ("text", "characters before", "bits per character"):
        table.add_column(column, justify="left" if column == "text" else "right")
    for path in parser.parse_args().files:
        corpus = open_corpus([str(path)])
        learned, rest = (
            "".join(chunk.text for chunk in part.chunks()) for part in (corpus.train, corpus.val)
        )
        best, before = min((bits_per_character(learned, rest, n), n) for n in range(MOST + 1))
        table.add_row(path.name, str(before), f"{best:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()

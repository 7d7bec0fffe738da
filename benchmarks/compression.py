"""`python -m benchmarks.compression FILE…`: what a compressor takes for the validation text, as a limit.

`zpaq -m5` mixes the predictions of many contexts and learns from every byte that it has written: it is given
the whole text, and the part that mygpt trains on. The difference is what the rest takes. A model of mygpt
learns nothing more from the text that it is validated on, and sees one window of it at a time.
"""

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mygpt_cli.text.corpus import open_corpus


def compressed(text: str, folder: Path) -> int:
    """Return how many bytes zpaq makes of a text."""
    file, archive = folder / "text", folder / "text.zpaq"
    file.write_text(text, encoding="utf-8", newline="")
    archive.unlink(missing_ok=True)
    subprocess.run(
        ["zpaq", "add", archive.name, file.name, "-m5"], cwd=folder, check=True, capture_output=True
    )
    return archive.stat().st_size


def main() -> None:
    """Print a line for each text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+")
    if not shutil.which("zpaq"):
        sys.exit("zpaq is not installed")
    table = Table(title="zpaq -m5, the validation text after the rest")
    for column in ("text", "bits per byte", "nats per character"):
        table.add_column(column, justify="left" if column == "text" else "right")
    for path in parser.parse_args().files:
        corpus = open_corpus([str(path)])
        learned, rest = (
            "".join(chunk.text for chunk in part.chunks()) for part in (corpus.train, corpus.val)
        )
        with tempfile.TemporaryDirectory() as folder:
            bits = 8 * (compressed(learned + rest, Path(folder)) - compressed(learned, Path(folder)))
        table.add_row(path.name, f"{bits / len(rest.encode()):.3f}", f"{bits * math.log(2) / len(rest):.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()

"""`python -m benchmarks.pictures FILE`: the pictures of the README, of real commands on a text.

Trains on the text for a minute in a folder of its own, and draws what `train`, `sample` and `inspect` show
into docs/pictures/, by the same code as `--svg`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.text import Text

from mygpt_cli.ui.export import to_svg, write_file

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH = 100


def shown(command: list[str], folder: Path) -> str:
    """Return the command line, and what it writes for a person, without a terminal."""
    program = [str(Path(sys.executable).with_name("mygpt")), *command]
    environment = os.environ | {"COLUMNS": str(WIDTH)}
    done = subprocess.run(
        program, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    quoted = " ".join(f'"{word}"' if " " in word else word for word in command)
    return f"$ mygpt {quoted}\n{done.stderr.decode()}{done.stdout.decode()}"


def draw(name: str, text: str) -> None:
    """Draw lines of text as a picture."""
    write_file(PICTURES / f"{name}.svg", to_svg(name, [Text(text.rstrip())], WIDTH))


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="a text, such as tinyshakespeare.txt")
    parser.add_argument("--time", default="60s")
    arguments = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "shakespeare.txt").symlink_to(arguments.file.absolute())
        lines = shown(["train", "shakespeare.txt", "--time", arguments.time], folder).splitlines()
        steps = [n for n, line in enumerate(lines) if line.startswith("step ")]
        some = set(steps) - set(steps[:: max(1, len(steps) // 6)])  # a few lines of progress suffice
        draw("train", "\n".join(line for n, line in enumerate(lines) if n not in some))
        prompt = ["--prompt", "ROMEO:", "--seed", "1"]
        draw("sample", shown(["sample", *prompt, "--max-new-tokens", "120"], folder))
        picture = str(PICTURES / "inspect.svg")
        shown(["inspect", *prompt, "--steps", "3", "--svg", picture], folder)


if __name__ == "__main__":
    main()

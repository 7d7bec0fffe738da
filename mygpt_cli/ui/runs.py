"""All runs of a folder, as a table or as JSON lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from mygpt_cli.ui.columns import fitting, light_table
from mygpt_cli.ui.console import note, show, stdout_console
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.sample import write_json
from mygpt_cli.ui.text import one_line
from mygpt_cli.ui.units import age, count

if TYPE_CHECKING:
    from mygpt_cli.inspection.runs import RunFacts

LONGEST_NAME = 28  # cells; a longer one takes several lines


def show_runs(runs: "Sequence[RunFacts]", folder: Path, *, json: bool) -> None:
    """Write a line for each run, the newest first."""
    if json:
        for run in runs:
            write_json(as_json(run))
        return
    if not runs:
        note(f"there are no runs in {folder} yet; `mygpt train story.txt` trains a model")
        return
    console = stdout_console()
    show(console, render_runs(runs, fitting(console.width)))


def render_runs(runs: "Sequence[RunFacts]", width: int) -> RenderableType:
    """Render runs as a table of `width` cells, 60 or more; the best is in bits per byte."""
    table = light_table(width)
    longest = max(len(one_line(run.name)) for run in runs)
    table.add_column("name", width=min(longest, LONGEST_NAME), overflow="fold", style="bold")
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("best", justify="right", no_wrap=True)
    table.add_column("text", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("age", justify="right", no_wrap=True)
    for run in runs:
        best = "-" if run.best is None else f"{run.best:.2f}"
        style = "green" if run.state == "running" else "" if run.state == "done" else "magenta"
        state = Text(run.state, style=style)
        table.add_row(Text(one_line(run.name)), _step(run), state, best, Text(_text(run)), age(run.age))
    table.caption = "best: bits per byte of the validation text; lower is better, 8 is random bytes"
    table.caption_style = "dim"
    table.caption_justify = "left"
    return table


def _step(run: "RunFacts") -> str:
    whole = run.steps is None or run.step == run.steps
    return count(run.step) if whole else f"{count(run.step)}/{count(run.steps or 0)}"


def _text(run: "RunFacts") -> str:
    """Name the files of the text."""
    if run.text is None:
        return "?"
    names = ["standard input" if file == "-" else one_line(Path(file).name) for file in run.text]
    text = ", ".join(names) or "the Python language reference"
    return f"{text} (from {one_line(Path(run.fine_tuned).name)})" if run.fine_tuned else text

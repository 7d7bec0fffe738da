"""`mygpt runs`: what has been trained."""

from pathlib import Path
from typing import Annotated

import typer

from mygpt_cli.cli.help import HelpAll
from mygpt_cli.cli.sampling import Json, runs_folder
from mygpt_cli.config.knobs import explained
from mygpt_cli.ui.help import Example

EXAMPLES = (
    Example("mygpt runs", "the runs in checkpoints/, the newest first"),
    Example("mygpt runs old/checkpoints", "those of another folder"),
    Example("mygpt runs --json", "for programs: one run on each line"),
)


def runs(
    folder: Annotated[
        str | None,
        typer.Argument(
            help=explained("Folder that the runs are in.", default="checkpoints, or the variable MYGPT_OUT"),
            metavar="[FOLDER]",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    help_all: HelpAll = False,
) -> None:
    """List the runs: how far each is, how good, on which text, and how old."""
    from mygpt_cli.inspection.runs import list_runs
    from mygpt_cli.ui.runs import show_runs

    where = runs_folder() if folder is None else Path(folder)
    show_runs(list_runs(where), where, json=json)

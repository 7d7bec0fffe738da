"""`mygpt inspect`: how a run has gone, what a checkpoint is, and how it comes to each word."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mygpt_cli.cli.sampling import (
    Device,
    Folder,
    FolderFlag,
    Html,
    Json,
    Quantize,
    Quiet,
    Svg,
    find_folder,
    fresh_seed,
    open_checkpoint,
    prompt_from_argument,
    read_flags,
    with_sampling,
)
from mygpt_cli.errors import CheckpointError, UsageError
from mygpt_cli.generation.settings import FILTERS, Sampling, field_of, knobs, resolve

if TYPE_CHECKING:
    from mygpt_cli.inspection.history import RunHistory

CHOICE = {"filters", "seed", "window", *map(field_of, FILTERS)} - {"min_new_tokens"}

SHOWS = {
    "--steps": "the choices after",
    "--temperatures": "the choice after",
    "--life": "the life of a token of",
}


@with_sampling(name for name in knobs() if name in CHOICE)
def inspect(
    folder: Folder = None,
    checkpoint: FolderFlag = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Go on from this text, and show each choice.", metavar="TEXT", rich_help_panel="Steps"
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Tokens to write [dim](5)[/dim].", metavar="N", min=1, rich_help_panel="Steps"),
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            help="Candidates to show [dim](5)[/dim].",
            metavar="N",
            min=1,
            rich_help_panel="Steps",
            show_default=False,
        ),
    ] = 5,
    temperatures: Annotated[
        str | None,
        typer.Option(help="Show the next token at each of these.", metavar="X,Y,…", rich_help_panel="Views"),
    ] = None,
    life: Annotated[
        bool,
        typer.Option("--life", help="Show all stages of a token.", metavar="", rich_help_panel="Views"),
    ] = False,
    position: Annotated[
        int | None,
        typer.Option(
            help="Of which token, from 1 [dim](the last)[/dim].", metavar="P", rich_help_panel="Views"
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Add a sentence to every row.", metavar="", rich_help_panel="Views"),
    ] = False,
    device: Device = "auto",
    quantize: Quantize = None,
    svg: Svg = None,
    html: Html = None,
    json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Show how a run has gone and what its checkpoint is; with --prompt, show how it comes to each word."""
    sampling = resolve({"seed": fresh_seed(), "max_new_tokens": steps or 5} | read_flags(flags))
    view = _view({"--steps": steps is not None, "--temperatures": temperatures is not None, "--life": life})
    if prompt is None and view:
        raise UsageError(f"{view} shows {SHOWS[view]} a prompt", 'give one with --prompt "..."')
    if position is not None and not life:
        raise UsageError("--position is that of the token for --life", "add --life")
    degrees = None if temperatures is None else _temperatures(temperatures, flags)
    text = None if prompt is None else prompt_from_argument(prompt)

    from mygpt_cli.ui.console import note
    from mygpt_cli.ui.export import Export
    from mygpt_cli.ui.inspect import show_steps, show_summary

    to = Export(svg, html)
    history = None if text is not None else _history(find_folder(folder, checkpoint))
    try:
        loaded = open_checkpoint(folder, checkpoint, device=device, quantize=quantize, quiet=quiet)
    except CheckpointError as error:
        if history is None or _saved(Path(history.folder)) or not (history.running or history.step):
            raise
        if not quiet:
            note(f"{error.message} yet")
        show_summary(None, history, json=json, to=to)
        return
    if text is None:
        from mygpt_cli.inspection.summary import summarise

        show_summary(summarise(loaded), history, json=json, to=to)
        return

    from mygpt_cli.generation.stream import read_prompt
    from mygpt_cli.inspection.life import view_life
    from mygpt_cli.inspection.steps import view_steps
    from mygpt_cli.inspection.temperatures import view_temperatures
    from mygpt_cli.ui.inspect import show_life, show_temperatures

    start = read_prompt(loaded.tokenizer, text, loaded.config.context)
    if start.note and not quiet:
        note(start.note)
    model, tokenizer = loaded.model, loaded.tokenizer
    if degrees:
        compared = view_temperatures(model, tokenizer, start, sampling, degrees, top=top)
        show_temperatures(compared, sampling, json=json, to=to, explain=explain)
    elif life:
        lived = view_life(model, tokenizer, start, sampling, position=position, top=top)
        show_life(lived, sampling, json=json, to=to, explain=explain)
    else:
        views = view_steps(model, tokenizer, start, sampling, top=top)
        show_steps(views, sampling, json=json, to=to, explain=explain)


def _view(given: Mapping[str, bool]) -> str | None:
    """Return the flag of the view that is asked for, if any; UsageError where there are several."""
    asked = [flag for flag, wanted in given.items() if wanted]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} are different views", "ask for one at a time")
    return asked[0] if asked else None


def _temperatures(text: str, flags: Mapping[str, Any]) -> list[float]:
    """Read temperatures with commas between them; UsageError where that is not what they are."""
    if flags.get("temperature") is not None:
        raise UsageError("--temperatures and --temperature exclude each other", "give one of them")
    try:
        degrees = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--temperatures are numbers with commas, not '{text}'", "0.1,0.5,1,1.5,2") from None
    for degree in degrees:
        Sampling(seed=0, temperature=degree)  # says what is wrong with it
    return degrees


def _history(folder: Path) -> "RunHistory | None":
    """Return how the run at a folder has gone, or None where it is no run."""
    from mygpt_cli.inspection.history import read_history, run_of

    run = run_of(folder)
    return None if run is None else read_history(run)


def _saved(run: Path) -> bool:
    """Whether a run has saved anything that could be a checkpoint."""
    return any((run / name).is_dir() for name in ("last", "best"))

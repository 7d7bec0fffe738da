"""`mygpt inspect`: what a checkpoint is, and how it comes to each word."""

from typing import Annotated, Any

import typer

from mygpt_cli.cli.sampling import (
    Device,
    Folder,
    FolderFlag,
    Json,
    Quiet,
    fresh_seed,
    open_checkpoint,
    prompt_from_argument,
    read_flags,
    with_sampling,
)
from mygpt_cli.errors import UsageError
from mygpt_cli.generation.settings import FILTERS, field_of, knobs, resolve

CHOICE = {"filters", "seed", "window", *map(field_of, FILTERS)} - {"min_new_tokens"}


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
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Show what a checkpoint is; with --prompt, show how it comes to each word."""
    sampling = resolve({"seed": fresh_seed(), "max_new_tokens": steps or 5} | read_flags(flags))
    if prompt is None and steps is not None:
        raise UsageError("--steps shows the choices after a prompt", 'give one with --prompt "..."')
    text = None if prompt is None else prompt_from_argument(prompt)

    from mygpt_cli.ui.console import note
    from mygpt_cli.ui.inspect import show_steps, show_summary

    loaded = open_checkpoint(folder, checkpoint, device=device, quiet=quiet)
    if text is None:
        from mygpt_cli.inspection.summary import summarise

        show_summary(summarise(loaded), json=json)
        return

    from mygpt_cli.generation.stream import read_prompt
    from mygpt_cli.inspection.steps import view_steps

    start = read_prompt(loaded.tokenizer, text, loaded.config.context)
    if start.note and not quiet:
        note(start.note)
    show_steps(view_steps(loaded.model, loaded.tokenizer, start, sampling, top=top), sampling, json=json)

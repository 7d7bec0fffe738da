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
from mygpt_cli.cli.views import VIEWS, Request, one_view, show_view
from mygpt_cli.errors import CheckpointError, UsageError
from mygpt_cli.generation.settings import FILTERS, Sampling, field_of, knobs, resolve

if TYPE_CHECKING:
    from mygpt_cli.checkpoint import Checkpoint
    from mygpt_cli.generation.stream import Prompt
    from mygpt_cli.inspection.history import RunHistory

# The views that go on from a prompt, and what they show of it.
AFTER_A_PROMPT = {
    "--steps": "the choices after",
    "--temperatures": "the choice after",
    "--life": "the life of a token of",
    "--lens": "what each layer would say after",
    "--attention": "what heads look at in",
}
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
    lens: Annotated[
        bool,
        typer.Option(
            "--lens", metavar="", help="What it would say after each layer.", rich_help_panel="Views"
        ),
    ] = False,
    attention: Annotated[
        bool,
        typer.Option(
            "--attention",
            metavar="",
            help="What each head looks at, and what it does.",
            rich_help_panel="Views",
        ),
    ] = False,
    layer: Annotated[
        int | None,
        typer.Option(help="Heads of this layer only, from 1.", metavar="L", rich_help_panel="Views"),
    ] = None,
    head: Annotated[
        int | None,
        typer.Option(help="Heads of this number only, from 1.", metavar="H", rich_help_panel="Views"),
    ] = None,
    tokens: Annotated[
        bool,
        typer.Option("--tokens", metavar="", help="How a text is cut into tokens.", rich_help_panel="Views"),
    ] = False,
    text: Annotated[
        str | None,
        typer.Option(help="How surprising a text is.", metavar="FILE", rich_help_panel="Views"),
    ] = None,
    copied: Annotated[
        bool,
        typer.Option(
            "--copied",
            metavar="",
            help="What of the text, or of what follows --prompt, stands in the training text.",
            rich_help_panel="Views",
        ),
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(help="How another checkpoint differs.", metavar="OTHER", rich_help_panel="Views"),
    ] = None,
    weights: Annotated[
        bool,
        typer.Option("--weights", metavar="", help="The tensors, in numbers.", rich_help_panel="Views"),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", metavar="", help="Add a plain sentence to every row.", rich_help_panel="Output"
        ),
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
    given = {"--temperatures": temperatures is not None, "--life": life, "--lens": lens}
    given |= {"--attention": attention, "--tokens": tokens, "--copied": copied}
    if not copied:
        given = {"--steps": steps is not None} | given
    given |= {"--compare": compare is not None, "--weights": weights}
    view = one_view(given) or (None if text is None else "--text")
    sampling = resolve({"seed": fresh_seed(), "max_new_tokens": steps or 5} | read_flags(flags))
    if prompt is None and view in AFTER_A_PROMPT:
        raise UsageError(f"{view} shows {AFTER_A_PROMPT[view]} a prompt", 'give one with --prompt "..."')
    if position is not None and not life:
        raise UsageError("--position is that of the token for --life", "add --life")
    degrees = None if temperatures is None else _temperatures(temperatures, flags)
    if (layer is not None or head is not None) and not attention:
        raise UsageError("--layer and --head choose heads of --attention", "add --attention")
    if explain and view is None and prompt is None:
        raise UsageError("--explain adds sentences to a view", "add one, such as --weights")
    start_text = None if prompt is None else prompt_from_argument(prompt)

    from mygpt_cli.ui.console import note
    from mygpt_cli.ui.export import Export
    from mygpt_cli.ui.inspect import show_steps, show_summary

    to = Export(svg, html)
    if view in VIEWS:
        from mygpt_cli.ui.texts import Shown

        shown = Shown(top, explain, json, to)
        place = (folder, checkpoint, start_text, text, compare, steps, device, quantize)
        show_view(view, Request(*place, sampling=sampling, quiet=quiet, shown=shown))
        return
    history = None if start_text is not None else _history(find_folder(folder, checkpoint))
    try:
        loaded = open_checkpoint(folder, checkpoint, device=device, quantize=quantize, quiet=quiet)
    except CheckpointError as error:
        if history is None or _saved(Path(history.folder)) or not (history.running or history.step):
            raise
        if not quiet:
            note(f"{error.message} yet")
        show_summary(None, history, json=json, to=to)
        return
    if start_text is None:
        from mygpt_cli.inspection.summary import summarise

        show_summary(summarise(loaded), history, json=json, to=to)
        return

    from mygpt_cli.generation.stream import read_prompt
    from mygpt_cli.inspection.steps import view_steps

    start = read_prompt(loaded.tokenizer, start_text, loaded.config.context)
    if start.note and not quiet:
        note(start.note)
    if view == "--lens":
        _show_lens(loaded, start, explain=explain, json=json, to=to)
        return
    if view == "--attention":
        _show_attention(loaded, start, layer, head, explain=explain, json=json, to=to)
        return
    if degrees:
        _show_temperatures(loaded, start, sampling, degrees, top, explain=explain, json=json, to=to)
        return
    if life:
        _show_life(loaded, start, sampling, position, top, explain=explain, json=json, to=to)
        return
    views = view_steps(loaded.model, loaded.tokenizer, start, sampling, top=top)
    show_steps(views, sampling, json=json, to=to, explain=explain)


def _show_temperatures(
    loaded: "Checkpoint", start: "Prompt", sampling: Sampling, degrees: list[float], top: int, **shown: Any
) -> None:
    from mygpt_cli.inspection.temperatures import view_temperatures
    from mygpt_cli.ui.inspect import show_temperatures

    view = view_temperatures(loaded.model, loaded.tokenizer, start, sampling, degrees, top=top)
    show_temperatures(view, sampling, **shown)


def _show_life(
    loaded: "Checkpoint", start: "Prompt", sampling: Sampling, position: int | None, top: int, **shown: Any
) -> None:
    from mygpt_cli.inspection.life import view_life
    from mygpt_cli.ui.inspect import show_life

    view = view_life(loaded.model, loaded.tokenizer, start, sampling, position=position, top=top)
    show_life(view, sampling, **shown)


def _show_lens(loaded: "Checkpoint", start: "Prompt", **shown: Any) -> None:
    from mygpt_cli.inspection.lens import view_lens
    from mygpt_cli.inspection.trace import trace
    from mygpt_cli.ui.lens import show_lens

    tokenizer = loaded.tokenizer
    show_lens(view_lens(trace(loaded.model, start.ids, tokenizer.vocab_size), tokenizer), **shown)


def _show_attention(
    loaded: "Checkpoint", start: "Prompt", layer: int | None, head: int | None, **shown: Any
) -> None:
    from mygpt_cli.inspection.attention import view_attention
    from mygpt_cli.inspection.trace import trace
    from mygpt_cli.ui.attention import show_attention

    tokenizer = loaded.tokenizer
    traced = trace(loaded.model, start.ids, tokenizer.vocab_size)
    show_attention(view_attention(traced, tokenizer, layer=layer, head=head), **shown)


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

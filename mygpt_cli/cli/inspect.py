"""`mygpt inspect`: how a run has gone, what a checkpoint is, and how it comes to each word."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mygpt_cli.base.errors import UsageError
from mygpt_cli.cli.options import switch, value
from mygpt_cli.cli.sampling import (
    Device,
    Encoding,
    Folder,
    FolderFlag,
    Html,
    Json,
    Quantize,
    Quiet,
    Svg,
    file_encoding,
    fresh_seed,
    prompt_from_argument,
    read_flags,
    refuse_more,
    with_sampling,
)
from mygpt_cli.cli.views import Request, one_view, show_view
from mygpt_cli.config.knobs import knobs
from mygpt_cli.config.sampling import FILTERS, Sampling, field_of, resolve

CHOICE = {"filters", "seed", "window", *map(field_of, FILTERS)} - {"min_new_tokens"}
COPIED = "What of the text, or of what follows --prompt, stands in the training text."


@with_sampling(name for name in knobs(Sampling) if name in CHOICE)
def inspect(
    context: typer.Context,
    folder: Folder = None,
    checkpoint: FolderFlag = None,
    prompt: Annotated[
        str | None, value("Go on from this text, and show each choice.", "TEXT", "Steps")
    ] = None,
    steps: Annotated[int | None, value("Tokens to write [dim](5)[/dim].", "N", "Steps", min=1)] = None,
    top: Annotated[int, value("Candidates to show [dim](5)[/dim].", "N", "Steps", min=1)] = 5,
    temperatures: Annotated[
        str | None, value("Show the next token at each of these.", "X,Y,…", "Views")
    ] = None,
    life: Annotated[bool, switch("--life", "Show all stages of a token.", "Views")] = False,
    position: Annotated[
        int | None, value("Of which token, from 1 [dim](the last)[/dim].", "P", "Views")
    ] = None,
    lens: Annotated[bool, switch("--lens", "What it would say after each layer.", "Views")] = False,
    attention: Annotated[
        bool, switch("--attention", "What each head looks at, and what it does.", "Views")
    ] = False,
    layer: Annotated[int | None, value("This layer only, from 1.", "L", "Views")] = None,
    head: Annotated[int | None, value("Heads of this number only, from 1.", "H", "Views")] = None,
    tokens: Annotated[bool, switch("--tokens", "How a text is cut into tokens.", "Views")] = False,
    text: Annotated[str | None, value("How surprising a text is.", "FILE", "Views")] = None,
    copied: Annotated[bool, switch("--copied", COPIED, "Views")] = False,
    compare: Annotated[
        str | None, value("How another checkpoint differs, or all that a run has kept.", "OTHER", "Views")
    ] = None,
    weights: Annotated[bool, switch("--weights", "The tensors, in numbers.", "Views")] = False,
    explain: Annotated[bool, switch("--explain", "Add a plain sentence to every row.", "Output")] = False,
    device: Device = "auto",
    encoding: Encoding = None,
    quantize: Quantize = None,
    svg: Svg = None,
    html: Html = None,
    browse: Annotated[bool, switch("--open", "Open it as a page in the browser.", "Output")] = False,
    json: Json = False,
    quiet: Quiet = False,
    **flags: Any,
) -> None:
    """Show how a run has gone and what its checkpoint is; with --prompt, show how it comes to each word."""
    refuse_more(context, folder)
    asked = {"--steps": steps is not None and not copied, "--temperatures": temperatures is not None}
    asked |= {"--life": life, "--lens": lens, "--attention": attention, "--tokens": tokens}
    asked |= {"--copied": copied, "--compare": compare is not None, "--weights": weights}
    without_a_flag = "--text" if text is not None else "--steps" if prompt is not None else None
    view = one_view(asked) or without_a_flag
    sampling = resolve({"seed": fresh_seed(), "max_new_tokens": steps or 5} | read_flags(flags))
    degrees = () if temperatures is None else _temperatures(temperatures, flags)
    start = None if prompt is None else prompt_from_argument(prompt)

    from mygpt_cli.ui.export import Export, Shown

    request = Request(
        folder=folder,
        checkpoint=checkpoint,
        prompt=start,
        file=text,
        encoding=file_encoding(encoding, used=text is not None),
        other=compare,
        steps=steps,
        temperatures=degrees,
        position=position,
        layer=layer,
        head=head,
        device=device,
        quantize=quantize,
        sampling=sampling,
        quiet=quiet,
        shown=Shown(top, explain, json, Export(svg, html, browse)),
    )
    show_view(view, request)


def _temperatures(text: str, flags: Mapping[str, Any]) -> tuple[float, ...]:
    """Read temperatures with commas between them; UsageError where that is not what they are."""
    if flags.get("temperature") is not None:
        raise UsageError("--temperatures and --temperature exclude each other", "give one of them")
    try:
        degrees = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--temperatures are numbers with commas, not '{text}'", "0.1,0.5,1,1.5,2") from None
    for degree in degrees:
        Sampling(seed=0, temperature=degree)  # says what is wrong with it
    return degrees

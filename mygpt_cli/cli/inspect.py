"""`mygpt inspect`: how a run has gone, what a checkpoint is, and how it comes to each word."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mygpt_cli.base.errors import UsageError
from mygpt_cli.cli.help import HelpAll
from mygpt_cli.cli.options import switch, value
from mygpt_cli.cli.request import Request
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
from mygpt_cli.cli.views import one_view, show_view
from mygpt_cli.config.knobs import knobs
from mygpt_cli.config.sampling import FILTERS, Sampling, field_of, resolve
from mygpt_cli.ui.help import Example

CHOICE = {"filters", "seed", "window", "length_penalty", *map(field_of, FILTERS)} - {"min_new_tokens"}
VIEWS, OUTPUT = "Views of a prompt", "Output"
OTHERS = "Other views"
EXAMPLES = (
    Example("mygpt inspect", "the newest run: its losses, and what the model is made of"),
    Example('mygpt inspect --prompt "Once upon a time" --steps 3', "how each token was chosen"),
    Example('mygpt inspect --prompt "Once upon a" --life --explain', "from text to prediction, in words"),
    Example('mygpt inspect --prompt "Once upon a" --attention', "what each attention head looks at"),
    Example("mygpt inspect --text story.txt --html story.html", "which words surprise the model, as a page"),
)


@with_sampling(name for name in knobs(Sampling) if name in CHOICE)
def inspect(
    context: typer.Context,
    folder: Folder = None,
    checkpoint: FolderFlag = None,
    prompt: Annotated[
        str | None,
        value("Continue this text, and show how each token is chosen (or a view below).", "TEXT", VIEWS),
    ] = None,
    steps: Annotated[
        int | None,
        value("Tokens to write after the prompt.", "N", VIEWS, default="5; with --copied 200", at_least=1),
    ] = None,
    top: Annotated[
        int, value("Candidate tokens to show at each step.", "N", VIEWS, default="5", at_least=1)
    ] = 5,
    temperatures: Annotated[
        str | None,
        value("Show the next token's probabilities at each of these temperatures.", "X,Y,...", VIEWS),
    ] = None,
    life: Annotated[
        bool, switch("--life", "Follow one token through the model, from its bytes to the prediction.", VIEWS)
    ] = False,
    position: Annotated[
        int | None,
        value(
            "Position of the token for --life to follow, counted from 1.",
            "P",
            VIEWS,
            default="the last",
            expert=True,
        ),
    ] = None,
    beams: Annotated[
        int | None,
        value(
            "Show a beam search for the most probable text, keeping the N best at each step.",
            "N",
            VIEWS,
            at_least=2,
        ),
    ] = None,
    tour: Annotated[
        bool, switch("--tour", "Take a guided tour through the model: a screen for each stage.", VIEWS)
    ] = False,
    lens: Annotated[
        bool, switch("--lens", "Show the prediction after each layer (logit lens).", VIEWS)
    ] = False,
    attention: Annotated[
        bool, switch("--attention", "Show what each attention head looks at and how it matters.", VIEWS)
    ] = False,
    layer: Annotated[
        int | None,
        value(
            "Layer whose heads --attention and --life show, counted from 1.",
            "L",
            VIEWS,
            default="all",
            expert=True,
        ),
    ] = None,
    head: Annotated[
        int | None,
        value(
            "Head that --attention and --life show in each layer, counted from 1.",
            "H",
            VIEWS,
            default="all",
            expert=True,
        ),
    ] = None,
    tokens: Annotated[
        bool, switch("--tokens", "Show how a prompt or file is split into tokens.", OTHERS)
    ] = False,
    text: Annotated[
        str | None,
        value("Score a file: colour each token by how unlikely the model found it.", "FILE", OTHERS),
    ] = None,
    copied: Annotated[
        bool,
        switch(
            "--copied", "Find what a file, or the model's own text, repeats of the training text.", OTHERS
        ),
    ] = False,
    compare: Annotated[
        str | None,
        value("Compare with another checkpoint, or with all that a run has kept.", "CHECKPOINT", OTHERS),
    ] = None,
    weights: Annotated[
        bool, switch("--weights", "List the weight tensors: shapes, norms, ranges.", OTHERS)
    ] = False,
    explain: Annotated[
        bool, switch("--explain", "Explain every row of a view in a sentence.", OUTPUT)
    ] = False,
    device: Device = "auto",
    encoding: Encoding = None,
    quantize: Quantize = None,
    svg: Svg = None,
    html: Html = None,
    browse: Annotated[
        bool, switch("--open", "Open the view as a web page in the browser.", "Output")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    help_all: HelpAll = False,
    **flags: Any,
) -> None:
    """Look inside a model: how its training went, what it consists of, and how it chooses each token."""
    refuse_more(context, folder)
    own_steps = steps is not None and not copied and beams is None
    asked = {"--steps": own_steps, "--beams": beams is not None, "--temperatures": temperatures is not None}
    asked |= {"--tour": tour, "--life": life, "--lens": lens, "--attention": attention, "--tokens": tokens}
    asked |= {"--copied": copied, "--compare": compare is not None, "--weights": weights}
    without_a_flag = "--text" if text is not None else "--steps" if prompt is not None else None
    view = one_view(asked) or without_a_flag
    given = read_flags(flags)
    chosen = {"seed": fresh_seed(), "max_new_tokens": steps or 5} | given
    sampling = resolve(chosen if beams is None else chosen | {"beams": beams})
    degrees = () if temperatures is None else _temperatures(temperatures, flags)
    if degrees and "temperature" not in sampling.order:
        raise UsageError("--temperatures is set, but --filters leaves temperature out", "add it to --filters")
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
        given=frozenset(given),
        quiet=quiet,
        shown=Shown(top, explain, json, Export(svg, html, browse)),
    )
    show_view(view, request)


def _temperatures(text: str, flags: Mapping[str, Any]) -> tuple[float, ...]:
    """Read temperatures with commas between them; UsageError where that is not what they are."""
    if flags.get("temperature") is not None:
        raise UsageError("--temperatures and --temperature cannot be combined", "give one of them")
    try:
        degrees = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--temperatures must be numbers separated by commas, not '{text}'", "such as 0.1,0.5,1,1.5,2"
        ) from None
    for degree in degrees:
        Sampling(seed=0, temperature=degree)  # says what is wrong with it
    return degrees

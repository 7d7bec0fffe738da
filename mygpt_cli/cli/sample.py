"""`mygpt sample`: text from a model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mygpt_cli.cli.sampling import (
    MIN_P,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    Folder,
    FolderFlag,
    Json,
    MinP,
    Quiet,
    Seed,
    Temperature,
    TopK,
    TopP,
    decode_prompt,
    fresh_seed,
    open_checkpoint,
    prompt_from_argument,
    setting,
)
from mygpt_cli.errors import TextError, UsageError
from mygpt_cli.generation.settings import Sampling, default_of


def sample(
    folder: Folder = None,
    checkpoint: FolderFlag = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Text to go on from; without one, standard input.", metavar="TEXT", rich_help_panel="Input"
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(help="A file with the text to go on from.", metavar="FILE", rich_help_panel="Input"),
    ] = None,
    temperature: Temperature = TEMPERATURE,
    top_k: TopK = TOP_K,
    top_p: TopP = TOP_P,
    min_p: MinP = MIN_P,
    seed: Seed = None,
    max_new_tokens: Annotated[int, setting("max_new_tokens")] = default_of("max_new_tokens"),
    num_samples: Annotated[int, setting("num_samples")] = default_of("num_samples"),
    stop: Annotated[list[str] | None, setting("stop")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write text with a model."""
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=fresh_seed() if seed is None else seed,
        max_new_tokens=max_new_tokens,
        num_samples=num_samples,
        stop=tuple(stop or ()),
    )
    text = _prompt_text(prompt, prompt_file)

    from mygpt_cli.generation.stream import generate, read_prompt
    from mygpt_cli.ui.console import note
    from mygpt_cli.ui.sample import JsonWriter, TextWriter

    loaded = open_checkpoint(folder, checkpoint, quiet=quiet)
    start = read_prompt(loaded.tokenizer, text, loaded.config.context)
    if start.note and not quiet:
        note(start.note)
    with (JsonWriter if json else TextWriter)(start, sampling) as writer:
        for event in generate(loaded.model, loaded.tokenizer, start, sampling):
            writer.show(event)
    if seed is None and not (sampling.greedy or json or quiet):
        note(f"--seed {sampling.seed} writes this again")


def _prompt_text(prompt: str | None, file: Path | None) -> str:
    """Return the prompt: given, from a file, from standard input unless it is a terminal, or empty."""
    if prompt is not None and file is not None:
        raise UsageError("--prompt and --prompt-file contradict each other", "give one")
    if prompt is not None:
        return prompt_from_argument(prompt)
    if file is not None and str(file) != "-":
        try:
            return without_last_newline(decode_prompt(file.read_bytes(), str(file)))
        except OSError as error:
            raise TextError(f"cannot read {file}: {error.strerror}", "give the text with --prompt") from None
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return ""
    return without_last_newline(decode_prompt(sys.stdin.buffer.read(), "standard input"))


def without_last_newline(text: str) -> str:
    """Drop the newline that `echo` and editors put at the end of a text, as the shell itself does."""
    return text.removesuffix("\n").removesuffix("\r")

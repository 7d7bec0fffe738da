"""`mygpt sample`: text from a model."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mygpt_cli.base.errors import TextError, UsageError
from mygpt_cli.cli.help import HelpAll
from mygpt_cli.cli.options import switch, value
from mygpt_cli.cli.sampling import (
    Device,
    Encoding,
    Folder,
    FolderFlag,
    Json,
    Quantize,
    Quiet,
    decode_prompt,
    file_encoding,
    fresh_seed,
    open_checkpoint,
    prompt_from_argument,
    read_flags,
    refuse_more,
    with_sampling,
)
from mygpt_cli.config.knobs import knobs
from mygpt_cli.config.sampling import Sampling, resolve_each
from mygpt_cli.ui.help import Example
from mygpt_cli.ui.text import one_line
from mygpt_cli.ui.units import count_of

if TYPE_CHECKING:
    from mygpt_cli.backends.interfaces import Decoder
    from mygpt_cli.checkpoints.checkpoint import Checkpoint
    from mygpt_cli.generation.stream import Sample
    from mygpt_cli.tokens.tokenizer import Tokenizer
    from mygpt_cli.ui.interactive import Turn

SHOWN = 5  # tokens with --show-probs
EXAMPLES = (
    Example('mygpt sample --prompt "Once upon a time"', "the newest model continues a text"),
    Example("mygpt sample story-001 --interactive", "choose a run; type one prompt after the other"),
    Example('mygpt sample --prompt "Once" --temperature 0.5 --num-samples 3', "three texts, played safe"),
    Example("mygpt sample --prompt-file start.txt --max-new-tokens 500 > more.txt", "from a file, to a file"),
    Example('mygpt sample --prompt "Once" --json --seed 1', "for programs; the seed repeats the text"),
)


@with_sampling(knobs(Sampling), several=["temperature"])
def sample(
    context: typer.Context,
    folder: Folder = None,
    checkpoint: FolderFlag = None,
    prompt: Annotated[
        list[str] | None,
        value("Continue this text; may be repeated.", "TEXT", "Input", default="what is piped in"),
    ] = None,
    prompt_file: Annotated[Path | None, value("Continue the text in this file.", "FILE", "Input")] = None,
    encoding: Encoding = None,
    prompts_by_line: Annotated[
        bool,
        switch(
            "--prompts-by-line", "Take each line of the file as a prompt of its own.", "Input", expert=True
        ),
    ] = False,
    interactive: Annotated[
        bool, switch("--interactive", "Type prompts and read the answers, until Ctrl-D.", "Input", "-i")
    ] = False,
    device: Device = "auto",
    quantize: Quantize = None,
    show_probs: Annotated[
        bool, switch("--show-probs", f"Show the {SHOWN} most probable tokens at each position.", "Output")
    ] = False,
    stats: Annotated[
        bool, switch("--stats", "Say how many tokens were written, and how fast.", "Output", expert=True)
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    help_all: HelpAll = False,
    **flags: Any,
) -> None:
    """Let a model write text, continuing a prompt or from nothing."""
    refuse_more(context, folder)
    given = read_flags(flags)
    output = Output(json=json, quiet=quiet, show_probs=show_probs, stats=stats, quantize=quantize)
    _check_flags(given, output, interactive, prompted=bool(prompt or prompt_file or prompts_by_line))
    encoding = file_encoding(encoding, used=not prompt and not interactive)
    samplings = resolve_each({"seed": fresh_seed()} | given)

    def opened() -> "tuple[Checkpoint, Decoder]":
        loading: dict[str, Any] = {
            "device": device,
            "quantize": quantize,
            "quiet": quiet,
            "only_writes": True,
        }
        return open_checkpoint(folder, checkpoint, text_command="sample --prompt-file", **loading)

    if interactive:
        from mygpt_cli.tokens.dataset import cache_folder
        from mygpt_cli.ui.interactive import interact

        both = opened()
        interact(given, lambda turn, given: _ask(*both, turn, given, output), cache_folder() / "history")
        return
    if prompt and prompts_by_line:
        raise UsageError(
            "--prompts-by-line needs a file or standard input", "for several prompts, repeat --prompt"
        )
    texts = _prompt_texts(prompt, prompt_file, encoding, by_line=prompts_by_line)
    loaded, decoder = opened()
    drawn = samplings[0].beams == 1 and not all(each.greedy for each in samplings)
    told = not drawn or "seed" in given or json or quiet
    remark = "" if told else f"repeat this text with --seed {samplings[0].seed}"
    write(loaded, decoder, texts, samplings, output, remark)


@dataclass(frozen=True)
class Output:
    """What is written besides the text, and how; `quantize` is the kind of weights that was asked for."""

    json: bool
    quiet: bool
    show_probs: bool
    stats: bool
    quantize: str | None


def _check_flags(given: Mapping[str, Any], output: Output, interactive: bool, *, prompted: bool) -> None:
    """Raise UsageError for flags of this command that exclude each other."""
    if interactive and (prompted or output.json):
        raise UsageError(
            "--interactive asks for its prompts and answers in text",
            "leave out --prompt, --prompt-file, --prompts-by-line and --json",
        )
    if output.show_probs and given.get("beams", 1) > 1:
        raise UsageError(
            "--show-probs has no effect with --beams, which does not sample", "remove one of them"
        )


def write(
    loaded: "Checkpoint",
    decoder: "Decoder",
    texts: Sequence[str],
    samplings: Sequence[Sampling],
    output: Output,
    remark: str = "",
    turn: "Turn | None" = None,
) -> None:
    """Write samples that continue each text, with each of the settings, and a remark in the end.

    The `turn` of a conversation hears the last of them; what it has shown is not written again.
    """
    from mygpt_cli.generation.stream import Sample, Stats, TextChunk, generate, read_prompt
    from mygpt_cli.ui.console import note
    from mygpt_cli.ui.progress import waiting
    from mygpt_cli.ui.sample import JsonWriter, TextWriter, stats_line

    tokenizer = loaded.tokenizer
    prompts = [read_prompt(tokenizer, text, loaded.config.context) for text in texts]
    top = SHOWN if output.show_probs else 0
    asked: dict[str, Any] = {"top": top, "logprobs": output.json or output.show_probs}
    runs = [generate(decoder, tokenizer, prompts, sampling, **asked) for sampling in samplings]
    shown = bool(turn and turn.shown)
    notes = [prompt.note for prompt in prompts if prompt.note and not shown]
    exhausted, short, timings = 0, 0, []
    weights = output.quantize or decoder.weights
    source = {"checkpoint": str(loaded.folder), "quantize": weights}
    if not output.quiet:
        for message in notes:
            note(message)
    seen = [replace(prompt, text="") for prompt in prompts] if shown else prompts
    if samplings[0].beams > 1:  # it says nothing before its end
        with waiting("searching for the most probable text", quiet=output.quiet):
            runs = [iter(list(events)) for events in runs]
    with (JsonWriter if output.json else TextWriter)(seen, samplings, tokenizer, source) as writer:
        for number, events in enumerate(runs):
            for event in events:
                if isinstance(event, Stats):
                    timings.append(event)
                else:
                    writer.show(event, number)
                last = number == len(runs) - 1 and samplings[number].num_samples
                if turn and isinstance(event, TextChunk) and event.number == last:
                    turn.hear(event.text)
                if isinstance(event, Sample):
                    if turn and event.number == last and not (event.text.strip() or output.quiet):
                        writer.notes.append(_nothing_added(event, samplings[number], tokenizer))
                    exhausted += event.exhausted
                    first = samplings[number].begin_with
                    short += event.reason == "length" and event.text != first and first.startswith(event.text)
        if short and not output.quiet:
            ended = f"--max-new-tokens {samplings[0].max_new_tokens} ended {count_of(short, 'text')}"
            writer.notes.append(f"{ended} inside --begin-with")
        if exhausted and not output.quiet:
            writer.notes.append(
                f"the filters left no token to choose {count_of(exhausted, 'time')}; the likeliest was taken"
            )
        for sampling, stats in zip(samplings, timings, strict=True) if output.stats else ():
            title = f"temperature {sampling.temperature:g}: " if len(samplings) > 1 else ""
            writer.notes.append(stats_line(stats, title))
        writer.notes += [remark] if remark else []


def _nothing_added(sample: "Sample", sampling: Sampling, tokenizer: "Tokenizer") -> str:
    """Say why a text has not gone on with anything to be seen."""
    if sample.reason == "stop":
        written = tokenizer.decode_bytes(sample.ids).decode("utf-8", "surrogateescape")
        found = [stop for stop in sampling.stop if stop in written] or sampling.stop
        return f"nothing was added: '{one_line(found[0])}' came next, where --stop ends the text"
    if sample.reason == "end_of_text":
        return "nothing was added: the model ends the text here"
    return f"nothing was added before --max-new-tokens {sampling.max_new_tokens} ended the text"


def _ask(
    loaded: "Checkpoint", decoder: "Decoder", turn: "Turn", given: Mapping[str, Any], output: Output
) -> None:
    """Write what the interactive session asks for."""
    samplings = resolve_each({"seed": fresh_seed(), **given})
    write(loaded, decoder, [prompt_from_argument(turn.prompt)], samplings, output, turn=turn)


def _prompt_texts(given: list[str] | None, file: Path | None, encoding: str, *, by_line: bool) -> list[str]:
    """Return the prompts: given, from a file or standard input, or an empty one."""
    if given and file is not None:
        raise UsageError("--prompt and --prompt-file cannot be combined", "give one of them")
    if given:
        return [prompt_from_argument(text) for text in given]
    text = _read_text(file, encoding)
    if not by_line:
        return [without_last_newline(text)]
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return [line for line in lines if line] or [""]


def _read_text(file: Path | None, encoding: str) -> str:
    if file is not None and str(file) != "-":
        try:
            return decode_prompt(file.read_bytes(), str(file), encoding)
        except OSError as error:
            raise TextError(f"cannot read {file}: {error.strerror}", "give the text with --prompt") from None
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return ""
    return decode_prompt(sys.stdin.buffer.read(), "standard input", encoding)


def without_last_newline(text: str) -> str:
    """Drop the newline that `echo` and editors put at the end of a text, as the shell itself does."""
    return text.removesuffix("\n").removesuffix("\r")

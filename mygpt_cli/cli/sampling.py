"""Flags that `sample` and `inspect` share: the checkpoint, and the settings of generation."""

import contextlib
import gc
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mygpt_cli.base.errors import CheckpointError, TextError, UsageError
from mygpt_cli.cli.options import add_flags, switch, value
from mygpt_cli.config.knobs import explained, flag_of, knobs
from mygpt_cli.config.sampling import HINT, Sampling
from mygpt_cli.text.document import Document
from mygpt_cli.text.encoding import encoding_fault

if TYPE_CHECKING:
    from mygpt_cli.backends.interfaces import Decoder
    from mygpt_cli.checkpoints.checkpoint import Checkpoint
    from mygpt_cli.model.config import ModelConfig

CHECKPOINT_HELP = "A run by name, or the folder of a run, a checkpoint or a Hugging Face model."
CHECKPOINT_DEFAULT = "the newest run in checkpoints/"

Folder = Annotated[
    str | None,
    typer.Argument(
        help=explained(CHECKPOINT_HELP, default=CHECKPOINT_DEFAULT),
        metavar="[CHECKPOINT]",
        show_default=False,
    ),
]
FolderFlag = Annotated[
    str | None,
    value("The model to use; does the same as the argument CHECKPOINT.", "CHECKPOINT", "Input", expert=True),
]
Device = Annotated[
    str, value("Device to compute on: auto, cpu, cuda or mps.", "NAME", "Input", default="auto", expert=True)
]
Quantize = Annotated[
    str | None,
    value(
        "Precision of the weights: bfloat16, int8, or none to keep that of the checkpoint.",
        "NAME",
        "Input",
        default="bfloat16 where a CPU writes text, else none",
        expert=True,
    ),
]
Encoding = Annotated[
    str | None,
    value(
        "Encoding of the text file, such as cp1252 or utf-16.", "NAME", "Input", default="utf-8", expert=True
    ),
]
Json = Annotated[bool, switch("--json", "Write JSON to stdout, one record on each line.", "Output")]
Quiet = Annotated[bool, switch("--quiet", "Write only the result: no notes, no progress.", "Output", "-q")]
Svg = Annotated[Path | None, value("Also save the view as an SVG picture.", "FILE", "Output")]
Html = Annotated[Path | None, value("Also save the view as a web page.", "FILE", "Output")]

_METAVARS = {"logit_bias": "TOKEN=X", "filters": "NAMES"}
_KINDS: dict[type, tuple[str, Any]] = {float: ("X", str), int: ("N", str), tuple: ("TEXT", list[str])}


def with_sampling(
    names: Iterable[str], several: Iterable[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command with `**flags` a flag for each of these settings.

    Those in `several` can be given several times.
    """
    return lambda command: add_flags(
        command, {name: _annotation(name, several=name in several) for name in names}
    )


def _annotation(name: str, *, several: bool) -> Any:
    knob = knobs(Sampling)[name]
    text = knob.explained + (" May be repeated, for one section each." if several else "")
    metavar, hint = _KINDS.get(knob.kind, ("NAME" if knob.choices else "TEXT", knob.kind))
    metavar = "" if knob.kind is bool else _METAVARS.get(name, metavar)
    hint = list[hint] if several else hint  # type: ignore[valid-type]
    option = typer.Option(
        knob.flag,
        help=text,
        metavar=metavar,
        rich_help_panel=knob.group,
        show_default=False,
        hidden=knob.expert,
    )
    return Annotated[hint | None, option]


def read_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of generation that were given; UsageError lists those that have no such value."""
    settings: dict[str, Any] = {}
    faults = []
    for name, given in flags.items():
        try:
            if given not in (None, False, []):
                settings[name] = _parsed(name, given)
        except ValueError as error:
            faults.append(f"{flag_of(name)}: {error}")
    if faults:
        raise UsageError(faults, HINT)
    return settings


def _parsed(name: str, value: str | list[str] | tuple[str, ...] | bool) -> Any:
    if isinstance(value, list | tuple):
        return tuple(value) if knobs(Sampling)[name].kind is tuple else [_parsed(name, one) for one in value]
    return knobs(Sampling)[name].parse(value) if isinstance(value, str) else value


def prompt_from_argument(prompt: str) -> str:
    """Return a prompt given on the command line; TextError when its bytes are not UTF-8."""
    try:
        return prompt.encode("utf-8", "surrogateescape").decode("utf-8-sig")
    except UnicodeEncodeError:
        raise TextError("the prompt has half of a surrogate pair, which is no character") from None
    except UnicodeDecodeError as error:
        place = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        raise TextError(f"the prompt is not UTF-8 text: {place}", "convert it to UTF-8") from None


def decode_prompt(data: bytes, source: str, encoding: str) -> str:
    """Decode a prompt; TextError naming the source, and what it may be, when it is not in this encoding."""
    return "".join(Document(source, data, encoding=encoding).chunks())


def file_encoding(given: str | None, *, used: bool) -> str:
    """Return the encoding of the file that is read; UsageError where there is none, or none is."""
    if given is not None and not used:
        raise UsageError("--encoding has no effect, since no file is read", "leave it out")
    if given is not None and (fault := encoding_fault(given)):
        raise UsageError(f"--encoding: {fault}")
    return given or "utf-8"


def fresh_seed() -> int:
    """Return a new seed, short enough to be typed again."""
    return secrets.randbelow(1_000_000)


def runs_folder() -> Path:
    """Return where runs are looked for by name."""
    return Path(os.environ.get("MYGPT_OUT") or "checkpoints")


def run_or_path(name: str) -> Path:
    """Return the folder that a path or the bare name of a run means, there or not."""
    named = runs_folder() / name
    bare = Path(name).name == name and runs_folder().is_dir()
    return named if not Path(name).exists() and (named.is_dir() or bare) else Path(name)


def find_folder(given: str | None, flag: str | None) -> Path:
    """Return the folder that is meant, or the newest run.

    It can be given with its flag or without: UsageError when it is given twice.
    """
    from mygpt_cli.checkpoints.finding import newest_run

    if given and flag:
        raise UsageError(
            f"the checkpoint is given twice: '{given}' and '{flag}'",
            "give it once; for a text to continue, use --prompt",
        )
    path = given or flag
    return run_or_path(path) if path else newest_run(runs_folder())


def refuse_more(context: typer.Context, folder: str | None) -> None:
    """Raise UsageError for arguments after the checkpoint: a prompt, most likely, or the rest of one."""
    if not context.args:
        return
    first, text, command = folder or "", " ".join(context.args), context.info_name or ""
    if run_or_path(first).exists():
        message = f"unexpected argument '{text}' after the checkpoint"
        raise UsageError(message, _prompt_hint(text, f"{command} {quote(first)}"))
    raise UsageError(f"there is no checkpoint '{first}'", _prompt_hint(f"{first} {text}", command))


def _prompt_hint(text: str, command: str) -> str:
    return f"for a text to continue, use --prompt: `mygpt {command} --prompt {quote(text)}`"


@contextlib.contextmanager
def _all_to_stay() -> Iterator[None]:
    """Collect no garbage meanwhile, nor ever look for it in what is there afterwards.

    Looking through torch and all that it loads takes part of a second.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@_all_to_stay()
def open_checkpoint(
    given: str | None,
    flag: str | None,
    *,
    device: str,
    quantize: str | None,
    quiet: bool,
    text_command: str,
    only_writes: bool = False,
    only_looks: bool = False,
) -> "tuple[Checkpoint, Decoder]":
    """Load the checkpoint, or that of the newest run, with what decodes it; tell what there is to tell.

    `text_command` is the command and flag with which a file is taken as a text, for those who give one here.
    A command that `only_writes` opens models whose weights fit into memory only as the decoder packs them.
    One that `only_looks` at the model has no weights packed beside it, or leaves them in the file where they
    do not fit; what decodes it is slow.
    """
    from mygpt_cli.ui.console import note
    from mygpt_cli.ui.progress import waiting

    warn = (lambda message: None) if quiet else note
    with waiting("loading the model", quiet=quiet):
        opening = {"only_writes": only_writes, "only_looks": only_looks}
        found, checkpoint, decoder = _open(given, flag, device, quantize, text_command, warn, **opening)
    for message in (*([] if given or flag else [f"using {found}"]), *checkpoint.notes):
        warn(message)
    return checkpoint, decoder


def _open(
    given: str | None,
    flag: str | None,
    device: str,
    quantize: str | None,
    text_command: str,
    warn: Callable[[str], None],
    *,
    only_writes: bool,
    only_looks: bool,
) -> "tuple[Path, Checkpoint, Decoder]":
    """Find and load a checkpoint and what decodes it, which may `warn` later, while it decodes."""
    from mygpt_cli.backends.choice import decoder_for, weights_for
    from mygpt_cli.backends.cpu.decoder import round_weights, takes
    from mygpt_cli.backends.reference import ReferenceDecoder
    from mygpt_cli.base.devices import pick_device
    from mygpt_cli.checkpoints.checkpoint import frozen, load
    from mygpt_cli.checkpoints.finding import TextInsteadError
    from mygpt_cli.checkpoints.memory import keep_whole, map_where_needed
    from mygpt_cli.tokens.dataset import cache_folder

    found = find_folder(given, flag)
    place = pick_device(device)
    kind = weights_for(quantize)

    def is_mapped(config: "ModelConfig", free: int) -> bool:
        packed = "" if only_looks else kind
        # What is left in the file cannot be rounded.
        as_it_is = (only_writes and takes(config)) or (only_looks and kind == "float32")
        return (map_where_needed if as_it_is and place.type == "cpu" else keep_whole)(config, free, packed)

    try:
        checkpoint = load(found, is_mapped=is_mapped)
    except TextInsteadError as error:
        error.hint += f", `mygpt {text_command} {quote(str(found))}` reads it as a text"
        raise
    except CheckpointError as error:
        # The most natural mistake is to give a prompt here.
        if given and not found.exists() and Path(given).name == given and "did you mean" not in error.message:
            prompt = _prompt_hint(given, text_command.split()[0])
            error.hint = prompt if " " in given else f"{error.hint}; {prompt}"
        raise
    model = frozen(checkpoint.model).to(place)
    if only_looks:
        round_weights(model, kind)
        return found, checkpoint, ReferenceDecoder(model)
    return found, checkpoint, decoder_for(model, quantize, cache_folder() / "kernels", warn)

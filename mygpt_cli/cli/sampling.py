"""Flags that `sample` and `inspect` share: the checkpoint, and the settings of generation."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mygpt_cli.errors import TextError, UsageError
from mygpt_cli.generation.settings import default_of, limits_of

if TYPE_CHECKING:
    from mygpt_cli.checkpoint import Checkpoint

CHECKPOINT_HELP = "A run, a checkpoint or a Hugging Face folder; by default the newest run in checkpoints/."

Folder = Annotated[
    str | None, typer.Argument(help=CHECKPOINT_HELP, metavar="[CHECKPOINT]", show_default=False)
]
FolderFlag = Annotated[
    str | None, typer.Option("--checkpoint", help="The same.", metavar="FOLDER", rich_help_panel="Input")
]


def setting(name: str) -> Any:
    """Declare a flag for a setting of generation, with its own help and group."""
    limits = limits_of(name)
    metavar = {float: "X", tuple: "TEXT"}.get(type(default_of(name)), "N")
    flag = f"--{name.replace('_', '-')}"
    return typer.Option(flag, help=limits.help, metavar=metavar, rich_help_panel=limits.group)


Temperature = Annotated[float, setting("temperature")]
TopK = Annotated[int, setting("top_k")]
TopP = Annotated[float, setting("top_p")]
MinP = Annotated[float, setting("min_p")]
Seed = Annotated[int | None, setting("seed")]
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="Write JSON, a record on each line.", rich_help_panel="Output"),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", help="Write nothing but the result.", rich_help_panel="Output"),
]
Svg = Annotated[
    Path | None,
    typer.Option("--svg", help="Also draw it into this file.", metavar="FILE", rich_help_panel="Output"),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", help="Also write it as a page into this file.", metavar="FILE", rich_help_panel="Output"
    ),
]

TEMPERATURE: float = default_of("temperature")
TOP_K: int = default_of("top_k")
TOP_P: float = default_of("top_p")
MIN_P: float = default_of("min_p")


def prompt_from_argument(prompt: str) -> str:
    """Return a prompt given on the command line; TextError when its bytes are not UTF-8."""
    try:
        data = prompt.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise TextError("the prompt has half of a surrogate pair, which is no character") from None
    return decode_prompt(data, "the prompt")


def decode_prompt(data: bytes, source: str) -> str:
    """Decode a prompt; TextError naming the source and the place of the first byte that is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{source} is not UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}",
            "convert it to UTF-8",
        ) from None


def fresh_seed() -> int:
    """Return a new seed, short enough to be typed again."""
    return secrets.randbelow(1_000_000)


def runs_folder() -> Path:
    """Return where runs are looked for by name."""
    return Path(os.environ.get("MYGPT_OUT") or "checkpoints")


def run_or_path(name: str) -> Path:
    """Return the folder that a path or the bare name of a run means."""
    named = runs_folder() / name
    return named if not Path(name).exists() and named.is_dir() else Path(name)


def find_folder(given: str | None, flag: str | None) -> Path:
    """Return the folder that is meant, or the newest run.

    It can be given with its flag or without: UsageError when it is given twice.
    """
    from mygpt_cli.checkpoint import newest_run

    if given and flag:
        raise UsageError(
            f"the checkpoint is given twice: '{given}' and '{flag}'", "give one; quote a text with spaces"
        )
    path = given or flag
    return run_or_path(path) if path else newest_run(runs_folder())


def open_checkpoint(given: str | None, flag: str | None, *, quiet: bool) -> "Checkpoint":
    """Load the checkpoint, or that of the newest run, and pass on what there is to tell about it."""
    from mygpt_cli.checkpoint import frozen, load
    from mygpt_cli.ui.console import note

    found = find_folder(given, flag)
    checkpoint = load(found)
    frozen(checkpoint.model)
    if not quiet:
        for message in (*([] if given or flag else [f"using {found}"]), *checkpoint.notes):
            note(message)
    return checkpoint

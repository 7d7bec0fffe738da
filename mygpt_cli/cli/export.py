"""`mygpt export`: a checkpoint as a file that llama.cpp and ollama run."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from mygpt_cli.base.errors import ResourceError, UsageError, did_you_mean
from mygpt_cli.cli.help import HelpAll
from mygpt_cli.cli.options import switch
from mygpt_cli.cli.sampling import CHECKPOINT_DEFAULT, CHECKPOINT_HELP, Json, Quiet, find_folder
from mygpt_cli.config.knobs import explained
from mygpt_cli.ui.help import Example

if TYPE_CHECKING:
    from mygpt_cli.checkpoints.checkpoint import Checkpoint
    from mygpt_cli.model.config import ModelConfig

SUFFIX = ".gguf"
EXAMPLES = (
    Example("mygpt export tale-001 tale.gguf --modelfile", "then: ollama create tale -f Modelfile"),
    Example("mygpt export tale-001 tale.gguf --type q8_0", "a quarter of the size of f32"),
    Example("mygpt export SmolLM2-135M smol.gguf --json", "for programs: what was compared"),
)


def export(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help=explained(CHECKPOINT_HELP, default=CHECKPOINT_DEFAULT),
            metavar="[CHECKPOINT]",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Argument(help="The GGUF file to write.", metavar="FILE.gguf", show_default=False)
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--type",
            help="Type of the matrices' numbers: f32, bf16, or q8_0, 8 bits with a scale for every 32"
            " (default: bf16).",
            metavar="KIND",
            rich_help_panel="Output",
        ),
    ] = "bf16",
    modelfile: Annotated[
        bool, switch("--modelfile", "Also write a Modelfile for ollama beside it.", "Output")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    help_all: HelpAll = False,
) -> None:
    """Write a checkpoint as a GGUF file, read it back, and say what was compared."""
    folder, path = _arguments(checkpoint, file)
    _check(path)

    from mygpt_cli.checkpoints.gguf import TYPES, check_gguf
    from mygpt_cli.checkpoints.gguf import export as write
    from mygpt_cli.checkpoints.modelfile import check_modelfile, write_modelfile
    from mygpt_cli.ui.console import note
    from mygpt_cli.ui.exported import show_exported
    from mygpt_cli.ui.progress import progress_bar

    if kind not in TYPES:
        raise UsageError(
            f"--type is one of {', '.join(TYPES)}, not '{kind}'{did_you_mean(kind, TYPES)}",
            "q8_0 makes the smallest file, f32 the exact one",
        )
    check_gguf()
    if modelfile:
        check_modelfile(path)
    loaded = _load(folder)
    with progress_bar(quiet=quiet) as progress:
        done = write(loaded, path, kind, progress)
    beside = None
    if modelfile:
        ends = set(loaded.tokenizer.ends)
        stops = tuple(text for text, token in loaded.tokenizer.vocabulary.specials.items() if token in ends)
        context = loaded.config.within_windows
        beside = write_modelfile(path, context=context, stops=stops, has_template=done.chat_template)
    for message in () if quiet else (*loaded.notes, *done.notes):
        note(message)
    show_exported(done, beside, json=json, quiet=quiet)


def _arguments(checkpoint: str | None, file: str | None) -> tuple[str | None, Path]:
    """Return the checkpoint, or None for the newest run, and the file to write."""
    if file is None and checkpoint is not None and checkpoint.endswith(SUFFIX):
        checkpoint, file = None, checkpoint
    if file is None:
        given = "CHECKPOINT" if checkpoint is None else quote(checkpoint)
        raise UsageError("there is no file to write to", f"`mygpt export {given} FILE{SUFFIX}`")
    path = Path(file)
    if path.suffix.lower() != SUFFIX:
        right = path.with_suffix(SUFFIX) if path.name else Path(f"model{SUFFIX}")
        raise UsageError(f"mygpt exports only {SUFFIX} files, not '{file}'", f"name it {quote(str(right))}")
    return checkpoint, path


def _check(path: Path) -> None:
    """Raise ResourceError for a file that cannot be written where it is to be, before anything is loaded."""
    folder = path.resolve().parent
    reason = "" if folder.is_dir() else f"there is no folder {folder}"
    if path.exists() and not path.is_file():
        reason = "it is not a file"
    if reason:
        raise ResourceError(f"cannot write {path}: {reason}", "name a file in an existing folder")


def _load(folder: str | None) -> "Checkpoint":
    """Load the checkpoint; CheckpointError, before any memory is taken, for one that cannot be exported."""
    from mygpt_cli.checkpoints.checkpoint import load
    from mygpt_cli.checkpoints.gguf import check_config
    from mygpt_cli.checkpoints.memory import map_where_needed

    def is_mapped(config: "ModelConfig", free: int) -> bool:
        check_config(config)
        return map_where_needed(config, free, "bfloat16")

    return load(find_folder(folder, None), is_mapped=is_mapped)

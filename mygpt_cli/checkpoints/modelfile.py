"""What ollama makes a model from: https://github.com/ollama/ollama/blob/main/docs/modelfile.md."""

from pathlib import Path

from mygpt_cli.base.errors import ResourceError, UsageError
from mygpt_cli.base.files import write_whole

NAME = "Modelfile"
MARK = "# Written by `mygpt export`.\n"


def check_modelfile(file: Path) -> None:
    """Raise UsageError where a Modelfile beside this file is someone else's, or cannot name the file."""
    path = file.with_name(NAME)
    if '"' in file.name or not file.name.isprintable():
        raise UsageError(f"a {NAME} cannot name {file.name!r}", "choose a plainer name for the file")
    try:
        if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
            raise UsageError(f"{path} is not one that mygpt wrote, and is left as it is", "move it away")
    except OSError as fault:
        raise ResourceError(f"cannot read {path}: {fault.strerror}", "move it away") from None


def write_modelfile(file: Path, *, context: int, stops: tuple[str, ...], has_template: bool) -> Path:
    """Write a Modelfile beside a GGUF file; return its path.

    The prompt is passed through as it is, unless the model has a chat template, for which ollama has its own.
    Texts end at `stops`. Raises ResourceError where it cannot be written.
    """
    path = file.with_name(NAME)
    lines = [MARK, f'FROM "./{file.name}"\n']
    lines += [] if has_template else ['TEMPLATE """{{ .Prompt }}"""\n']
    lines += [f"PARAMETER num_ctx {context}\n", "PARAMETER temperature 0.8\n", "PARAMETER top_p 0.95\n"]
    lines += [f'PARAMETER stop "{stop}"\n' for stop in stops if '"' not in stop and stop.isprintable()]
    try:
        write_whole(path, lines)
    except OSError as fault:
        raise ResourceError(f"cannot write {path}: {fault.strerror or fault}", "free some space") from None
    return path

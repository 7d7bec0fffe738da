"""What was exported, and what it was compared with."""

import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.console import show, stdout_console
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.sample import write_json
from mygpt_cli.ui.text import one_line, safe
from mygpt_cli.ui.units import count, count_of, size

if TYPE_CHECKING:
    from mygpt_cli.checkpoints.gguf import Exported


def show_exported(done: "Exported", modelfile: Path | None, *, json: bool, quiet: bool) -> None:
    """Write what was exported: as a table, as a line of JSON, or as the file's name alone."""
    commands = [] if modelfile is None else ollama_commands(modelfile, Path(done.file).stem)
    if json:
        beside = None if modelfile is None else str(modelfile)
        write_json(as_json(done) | {"modelfile": beside, "commands": commands})
        return
    if quiet:
        sys.stdout.write(f"{safe(done.file)}\n")
        return
    facts = Table.grid(padding=(0, 2), pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("file", Text(f"{one_line(done.file)}  {size(done.bytes)}", overflow="fold"))
    numbers = f"{done.architecture}, {count(done.parameters)} parameters, {done.type}"
    template = ", with its chat template" if done.chat_template else ""
    facts.add_row("model", Text(f"{numbers}{template}"))
    facts.add_row("read back", Text("\n".join(compared(done))))
    if modelfile is not None:
        facts.add_row("ollama", Text("\n".join(map(one_line, commands)), overflow="fold"))
    show(stdout_console(), facts)


def compared(done: "Exported") -> list[str]:
    """Say what of a file was compared with the checkpoint, and how well it agrees."""
    lines = []
    for kind, number in done.tensors.items():
        same = "the same numbers" if kind == "f32" else "the same numbers, rounded to bfloat16"
        if kind == "q8_0":
            same = f"rounded to 8 bits, at most {done.largest_error:.2g} off"
        lines.append(f"{count_of(number, 'tensor')} in {kind}: {same}")
    order = count_of(done.merges, "merge") if done.merges else count_of(done.scores, "score")
    lines.append(f"{count_of(done.tokens, 'token')}, {order}: the same")
    return lines


def ollama_commands(modelfile: Path, name: str) -> Sequence[str]:
    """Return the commands that make an ollama model of a Modelfile, and run it."""
    plain = "".join(char if char.isascii() and char.isalnum() else "-" for char in name).strip("-").lower()
    plain = plain or "mymodel"
    return [f"ollama create {plain} -f {quote(str(modelfile))}", f"ollama run {plain}"]

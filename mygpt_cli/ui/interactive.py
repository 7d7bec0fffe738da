"""A conversation in a terminal: prompts one after the other, and commands that change the settings.

What the model writes goes to stdout, all else to stderr.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from mygpt_cli.base.errors import MygptError, ResourceError, UsageError, did_you_mean
from mygpt_cli.config.knobs import knobs
from mygpt_cli.config.sampling import Sampling, resolve_each
from mygpt_cli.ui.console import note, show, stderr_console
from mygpt_cli.ui.errors import print_error
from mygpt_cli.ui.text import one_line
from mygpt_cli.ui.units import count_of

MARK = "> "
COMMANDS = {
    "TEXT": "Continue this text.",
    "Enter": "Continue the text so far.",
    "/set NAME VALUE": "Change a setting, such as /set temperature 0.5.",
    "/set NAME": "Restore the default of a setting.",
    "/set": "Show all settings.",
    "/save FILE": "Write the text so far to a file.",
    "//TEXT": "Continue a text that begins with /.",
    "/help": "Show these commands.",
    "/quit": "Leave, as Ctrl-D does.",
}


@dataclass
class Turn:
    """A text to continue, which is on the screen already where `shown`; `written` gathers what follows."""

    prompt: str
    shown: bool = False
    written: str = ""

    def hear(self, text: str) -> None:
        """Take what is being written."""
        self.written += text

    @property
    def text(self) -> str:
        """All of it; what is not UTF-8 is replaced."""
        whole = self.prompt + self.written
        return whole.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def interact(given: dict[str, Any], respond: Callable[[Turn, dict[str, Any]], None], history: Path) -> None:
    """Ask for prompts and answer each, until the input ends; without a terminal, take them from its lines.

    `given` are the settings to begin with. Ctrl-C stops a text that is being written, or drops a line that
    is being typed. What is typed is remembered in the file `history`, where the system has a way to do so.
    Raises UsageError where there is neither a terminal nor a line.
    """
    typed = sys.stdin is not None and sys.stdin.isatty()
    if isinstance(sys.stdin, io.TextIOWrapper) and not typed:
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    lines = 0
    turn: Turn | None = None
    saved: set[Path] = set()
    with _remembering(history) if typed else contextlib.nullcontext():
        if typed:
            note("type a text to continue, or /help. Ctrl-C stops the text, Ctrl-D leaves")
        while True:
            try:
                line = _read_line()
                if line is None or line.split()[:1] == ["/quit"]:
                    break
                lines += 1
                if line.split()[:1] == ["/save"]:
                    _save(line.partition(" ")[2].strip(), turn, saved)
                elif line.startswith("/") and not line.startswith("//"):
                    given = _command(line, given)
                elif line or turn:
                    before, turn = turn, _turn_of(line, turn)
                    try:
                        respond(turn, given)
                    except MygptError:
                        turn = before
                        raise
                    if not sys.stdout.isatty():  # there, a text by itself does not end its line
                        print(flush=True)
            except KeyboardInterrupt:
                stderr_console().print()
            except MygptError as error:
                print_error(error.message, error.hint)
    if line is None and not lines and not typed:
        raise UsageError(
            "--interactive has neither a terminal to ask on nor a line to read",
            "run it in a terminal, pipe in one prompt on each line, or use --prompt",
        )


def _turn_of(line: str, before: Turn | None) -> Turn:
    """Return the text that a line asks to continue: an empty one, the text so far."""
    return Turn(before.text, shown=True) if before and not line else Turn(line.removeprefix("/"))


def _read_line() -> str | None:
    """Return the next line without its end, None when there is none."""
    if sys.stdin is None:
        return None
    if sys.stdin.isatty() and sys.stdout.isatty():
        try:
            return input(MARK)
        except EOFError:
            sys.stdout.write("\n")
            return None
    if sys.stdin.isatty():
        sys.stderr.write(MARK)
        sys.stderr.flush()
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def _command(line: str, given: dict[str, Any]) -> dict[str, Any]:
    """Carry out a command and return the settings after it; UsageError for one that cannot be."""
    command, _, rest = line.partition(" ")
    if command == "/help":
        _show_pairs(COMMANDS)
    elif command == "/settings" or line.split() == ["/set"]:
        _show_settings(given)
    elif command == "/set":
        return _set(rest, given)
    else:
        known = [name.split()[0] for name in COMMANDS if name.startswith("/")] + ["/settings"]
        raise UsageError(
            f"there is no command {command}{did_you_mean(command, known)}", "/help lists the commands"
        )
    return given


def _set(rest: str, given: dict[str, Any]) -> dict[str, Any]:
    word, _, text = rest.lstrip().partition(" ")
    name = word.removeprefix("--").replace("-", "_")
    known = knobs(Sampling)
    if name not in known:
        raise UsageError(
            f"there is no setting '{word}'{did_you_mean(name, known)}", "/set lists the settings"
        )
    changed = {key: value for key, value in given.items() if key != name}
    if text := _unquoted(text):
        try:
            changed[name] = known[name].parse(text)
        except ValueError as error:
            raise UsageError(f"{word}: {error}", known[name].help) from None
    try:
        resolve_each({"seed": 0} | changed)
    except UsageError as error:
        raise UsageError(error.message, "/set shows the settings, /set NAME restores a default") from None
    value = _value(changed.get(name, known[name].given))
    _show_pairs({name.replace("_", "-"): value if name in changed else f"{value} (default)".lstrip()})
    return changed


def _save(name: str, turn: Turn | None, saved: set[Path]) -> None:
    """Write the text so far to a file, which may be there only if it was saved here before."""
    if turn is None:
        raise UsageError("there is no text to save yet", "type a text to continue first")
    if not name:
        raise UsageError("/save needs the name of a file", "such as /save story.txt")
    path = Path(_unquoted(name)).expanduser()
    if path.exists() and path.resolve() not in saved:
        raise UsageError(f"{path} exists already", "choose another name: /save never replaces a file")
    try:
        path.write_text(turn.text, encoding="utf-8", newline="")
    except OSError as error:
        raise ResourceError(f"cannot write to {path}: {error.strerror}", "choose another file") from None
    saved.add(path.resolve())
    note(f"{count_of(len(turn.text), 'character')} saved to {path}")


def _unquoted(text: str) -> str:
    """Drop the quotes around a value, which a shell would."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _show_settings(given: dict[str, Any]) -> None:
    values = {name: given.get(name, knob.given) for name, knob in knobs(Sampling).items()}
    changed = {name.replace("_", "-") for name in given}
    _show_pairs({name.replace("_", "-"): _value(value) for name, value in values.items()}, changed)


def _value(value: Any) -> str:
    if value is None:
        return "new for each text"
    if isinstance(value, list | tuple):
        return " ".join(map(_value, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value if value == value.strip() else f"'{value}'"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _show_pairs(pairs: Mapping[str, str], bright: Container[str] = ()) -> None:
    table = Table.grid(padding=(0, 2))
    for name, text in pairs.items():
        table.add_row(Text(name), Text(one_line(text), style="" if name in bright else "dim"))
    show(stderr_console(), table)


@contextlib.contextmanager
def _remembering(history: Path) -> Iterator[None]:
    """Keep the lines that are typed in a file, where there is a module for it and the file can be used."""
    try:
        import readline
    except ImportError:  # Windows
        yield
        return
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(history)

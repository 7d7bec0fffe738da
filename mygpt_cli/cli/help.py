"""Help for each command: examples first, then what people need; `--help-all` has every flag."""

import contextlib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from shlex import join
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mygpt_cli.base.errors import UsageError
from mygpt_cli.ui.help import Example, HelpPage, Section, show_help

ABOUT_HELP = ("help", "help_all")  # parameters
COMMON = "Help"


class TeachingCommand(TyperCommand):
    """A command whose help begins with examples; a hidden flag is one for experts."""

    examples: Sequence[Example] = ()
    order: Sequence[str] = ()
    settings_note = ""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help to stdout, without the flags for experts."""
        show_help(self.page(ctx))

    def page(self, context: Any, *, everything: bool = False) -> HelpPage:
        """Return the help, with the flags for experts or without."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in self.order}
        hidden = 0
        parameters: Sequence[Any] = self.get_params(context)
        for parameter in parameters:
            if parameter.hidden and not everything:
                hidden += 1
                continue
            title = COMMON if parameter.name in ABOUT_HELP else getattr(parameter, "rich_help_panel", None)
            sections.setdefault(title or "Arguments", []).append((_name_of(parameter), parameter.help or ""))
        sections[COMMON] = sections.pop(COMMON)  # last
        arguments = [each for each in parameters if each.param_type_name == "argument"]
        closing = [self.settings_note] if everything and self.settings_note else []
        if hidden:
            closing = [f"{hidden} more flags, for experts: {context.command_path} --help-all"]
        return HelpPage(
            usage=" ".join([context.command_path, *map(_name_of, arguments), "[OPTIONS]"]),
            about=[" ".join((self.help or "").split())],
            examples=self.examples,
            sections=[Section(title, tuple(rows)) for title, rows in sections.items() if rows],
            closing=closing,
        )


def teaching(
    examples: Sequence[Example], order: Sequence[str] = (), settings_note: str = ""
) -> type[TeachingCommand]:
    """Return a kind of command whose help has these examples, its sections in this order.

    The help in full ends with the note on its settings.
    """
    own = {"examples": examples, "order": order, "settings_note": settings_note}
    return type("Command", (TeachingCommand,), own)


def _name_of(parameter: Any) -> str:
    """Return how a flag or an argument is written, with its value."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    names = sorted(parameter.opts, key=len) + parameter.secondary_opts
    return f"{', '.join(names)} {parameter.metavar or ''}".rstrip()


def _show_everything(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing and isinstance(context.command, TeachingCommand):
        show_help(context.command.page(context, everything=True))
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        help="Show all flags, also those for experts.",
        is_eager=True,
        callback=_show_everything,
        metavar="",
        show_default=False,
    ),
]

EXAMPLES = (
    Example("mygpt train story.txt", "train a model on a text, for five minutes"),
    Example('mygpt sample --prompt "Once upon a time"', "let the newest model write"),
    Example('mygpt inspect --prompt "Once upon a time"', "see why it wrote that"),
    Example("mygpt runs", "list what you have trained"),
)
# What people type in place of a command, and the command that does it.
MEANT = {
    **dict.fromkeys(("generate", "gen", "write", "run", "predict", "complete", "prompt"), "sample"),
    **dict.fromkeys(("chat", "talk", "interactive", "repl"), "sample --interactive"),
    **dict.fromkeys(("fit", "learn", "pretrain", "new", "start", "init"), "train"),
    **dict.fromkeys(("finetune", "fine-tune", "tune"), "train --init-from CHECKPOINT"),
    **dict.fromkeys(("resume", "continue"), "train --resume latest"),
    **dict.fromkeys(("show", "view", "explain", "info", "look", "visualize", "plot"), "inspect"),
    **dict.fromkeys(("tokenize", "tokens"), "inspect --tokens --prompt TEXT"),
    **dict.fromkeys(("eval", "evaluate", "score", "perplexity"), "inspect --text FILE"),
    **dict.fromkeys(("convert", "gguf", "ollama", "quantize"), "export"),
    **dict.fromkeys(("list", "ls", "models", "checkpoints", "history"), "runs"),
    "help": "--help",
    "version": "--version",
}


OF_MODELS = ("config.json", "config.toml", "last", "best", "kept", "snapshots")  # in the folder of one


class Commands(TyperGroup):
    """The commands; what is none leads to one."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write to stdout what the commands are for."""
        rows = [(name, command.get_short_help_str(200)) for name, command in self.commands.items()]
        parameters: Sequence[Any] = self.get_params(ctx)
        flags = [(_name_of(each), each.help or "") for each in parameters if not each.hidden]
        page = HelpPage(
            usage="mygpt COMMAND [OPTIONS]",
            about=[self.help or ""],
            examples=EXAMPLES,
            sections=[Section("Commands", tuple(rows)), Section("Flags", tuple(flags))],
            closing=["mygpt COMMAND --help explains a command, with examples."],
        )
        show_help(page)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is named first; UsageError names the one that may be meant."""
        name = args[0] if args else ""
        if name and name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            raise UsageError(*no_command(name, args[1:], self.commands))
        return super().resolve_command(ctx, args)


def no_command(name: str, rest: Sequence[str], commands: Iterable[str]) -> tuple[str, str]:
    """Say that there is no such command, and which one does what is meant."""
    message = f"there is no command '{name}'"
    with contextlib.suppress(OSError):  # no such name can be
        if Path(name).is_file():
            return message, f"to train on that file: `mygpt {join(['train', name, *rest])}`"
        if Path(name).is_dir():
            if any((Path(name) / part).exists() for part in OF_MODELS):
                return message, f"to see what is in that folder: `mygpt {join(['inspect', name, *rest])}`"
            return message, f"to train on the texts in that folder: `mygpt {join(['train', name, *rest])}`"
    known = list(commands)
    near = get_close_matches(name.lower(), [*known, *MEANT], n=1)
    if near:
        return message, f"use `mygpt {_with_rest(MEANT.get(near[0], near[0]), rest)}`"
    return message, f"`mygpt --help` lists the commands: {', '.join(known)}"


def _with_rest(meant: str, rest: Sequence[str]) -> str:
    """Put what was typed after a wrong name behind the right command."""
    if not rest:
        return meant
    is_text = not rest[0].startswith("-")
    if meant == "--help":
        return f"{join(rest)} --help"
    if meant == "train --resume latest" and is_text:
        meant = "train --resume"
    with contextlib.suppress(OSError):  # no such name can be
        if Path(rest[0]).is_file():
            meant = meant.replace("--prompt TEXT", "--text")
    meant = meant.removesuffix(" TEXT").removesuffix(" FILE")
    if meant == "sample" and is_text:
        meant = "sample --prompt"
    if meant == "sample --interactive" and is_text:
        return meant  # which asks for the text
    return f"{meant} {join(rest)}"

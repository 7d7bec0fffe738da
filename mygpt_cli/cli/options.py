"""Command-line flags: short forms of Typer's, and those made from the settings of `TrainConfig`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from mygpt_cli.config.knobs import explained, flag_of, knobs
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.train import WITHOUT_FLAG, TrainConfig, as_settings

_METAVARS = {int: "N", float: "X", str: "NAME"}
_METAVARS_BY_NAME = {"time": "TIME", "val_file": "FILE", "out": "FOLDER", "init_from": "CHECKPOINT"}


def value(
    text: str,
    metavar: str,
    panel: str,
    *,
    default: str = "",
    at_least: int | None = None,
    expert: bool = False,
) -> Any:
    """Return a flag that takes a value; its name is that of the parameter, its default is told in words.

    Only `--help-all` shows those for an `expert`.
    """
    limits = "" if at_least is None else f"at least {at_least}"
    return typer.Option(
        help=explained(text, limits, default),
        metavar=metavar,
        min=at_least,
        rich_help_panel=panel,
        show_default=False,
        hidden=expert,
    )


def switch(flag: str, text: str, panel: str, *short: str, expert: bool = False) -> Any:
    """Return a flag that takes no value and has no opposite."""
    return typer.Option(
        flag, *short, help=text, metavar="", rich_help_panel=panel, show_default=False, hidden=expert
    )


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `**flags` one optional flag for each setting of training."""
    return add_flags(
        command, {name: _annotation(name) for name in knobs(TrainConfig) if name not in WITHOUT_FLAG}
    )


def add_flags(command: Callable[..., None], annotations: Mapping[str, Any]) -> Callable[..., None]:
    """Give a command that takes `**flags` one optional flag, None when not given, for each annotation."""
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in annotations.items()
    ]
    command.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    command.__annotations__ |= annotations
    return command


def _annotation(name: str) -> Any:
    knob = knobs(TrainConfig)[name]
    shared: dict[str, Any] = {
        "help": knob.explained,
        "rich_help_panel": knob.group,
        "show_default": False,
        "hidden": knob.expert,
    }
    if knob.kind is bool:
        both = f"{knob.flag}/--no-{knob.flag[2:]}"
        return Annotated[bool | None, typer.Option(both, metavar="", **shared)]
    metavar = _METAVARS_BY_NAME.get(name, _METAVARS[knob.kind])
    return Annotated[str | None, typer.Option(knob.flag, metavar=metavar, **shared)]


def read_flags(flags: Mapping[str, Any]) -> Settings:
    """Turn the flags that were given into settings; UsageError lists every one that is wrong."""
    settings: dict[str, Any] = {}
    faults = []
    for name, value in flags.items():
        if isinstance(value, str):
            try:
                settings[name] = knobs(TrainConfig)[name].parse(value)
            except ValueError as error:
                faults.append(f"{flag_of(name)}: {error}")
        elif value is not None:
            settings[name] = value
    return as_settings(settings, faults=faults)

"""Command-line flags: short forms of Typer's, and those made from the settings of `TrainConfig`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Annotated, Any

import typer

from mygpt_cli.config.knobs import flag_of, knobs
from mygpt_cli.config.train import WITHOUT_FLAG, Settings, TrainConfig, raise_faults, setting_faults

_METAVARS = {int: "N", float: "X", str: "TEXT"}


def value(text: str, metavar: str, panel: str, **limits: Any) -> Any:
    """Return a flag that takes a value; its name is that of the parameter."""
    return typer.Option(help=text, metavar=metavar, rich_help_panel=panel, show_default=False, **limits)


def switch(flag: str, text: str, panel: str, *short: str) -> Any:
    """Return a flag that takes no value and has no opposite."""
    return typer.Option(flag, *short, help=text, metavar="", rich_help_panel=panel, show_default=False)


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
    text = knob.help.rstrip(".")
    flag, default = knob.flag, knob.default
    if default is MISSING:
        text += " [dim](chosen to fit)[/dim]"
    elif default is not None:
        text += f" [dim]({default})[/dim]"
    kind, panel = knob.kind, knob.group
    if kind is bool:
        return Annotated[
            bool | None,
            typer.Option(
                f"{flag}/--no-{flag[2:]}", metavar="", help=text, rich_help_panel=panel, show_default=False
            ),
        ]
    metavar = "|".join(knob.choices) or _METAVARS[kind]
    return Annotated[
        str | None, typer.Option(flag, help=text, metavar=metavar, rich_help_panel=panel, show_default=False)
    ]


def read_flags(flags: Mapping[str, Any]) -> Settings:
    """Turn the flags that were given into settings; UsageError lists every one that is wrong."""
    settings: Settings = {}
    faults = []
    for name, value in flags.items():
        if isinstance(value, str):
            try:
                settings[name] = knobs(TrainConfig)[name].parse(value)
            except ValueError as error:
                faults.append(f"{flag_of(name)}: {error}")
        elif value is not None:
            settings[name] = value
    raise_faults(faults + setting_faults(settings))
    return settings

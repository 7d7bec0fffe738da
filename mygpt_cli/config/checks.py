"""What is wrong with settings of training: each by itself, and together."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from mygpt_cli.base.errors import did_you_mean
from mygpt_cli.base.names import name_fault
from mygpt_cli.config.course import is_course
from mygpt_cli.config.knobs import Knob
from mygpt_cli.model.architectures import ARCHITECTURES, DEFAULT, TRAINABLE, find
from mygpt_cli.model.config import shape_faults
from mygpt_cli.text.encoding import encoding_fault

BUDGETS = ("epochs", "tokens", "time", "steps")


def parse_duration(text: str) -> float:
    """Turn `90`, `90s`, `5m`, `1h30m` or `2d` into seconds; ValueError for anything else."""
    if re.fullmatch(r"\d{1,15}(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d{1,15}(\.\d+)?[dhms])+", text):
        raise ValueError(f"'{text}' is not a duration such as 90s, 5m or 1h30m")
    unit = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
    return sum(
        float(number) * unit[letter] for number, letter in re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    )


def faults_of(
    settings: Mapping[str, Any], known: Mapping[str, Knob], called: Callable[[str], str]
) -> list[str]:
    """List what is wrong with settings, known so far or complete: each value, then what contradicts another.

    `known` are all that there are; `called` returns the name of a setting where these come from.
    """
    settings = {name: value for name, value in settings.items() if value is not None}
    faults = [
        fault for name, value in settings.items() if (fault := _value_fault(name, value, known, called(name)))
    ]
    if faults:
        return faults
    given = [called(name) for name in BUDGETS if settings.get(name) is not None]
    if len(given) > 1:
        faults.append(f"{' and '.join(given)} cannot be combined: give one of them")
    corrections, steps = settings.get("corrections"), settings.get("steps")
    if corrections and steps != corrections[-1][1]:
        names = called("corrections"), called("steps")
        faults.append(
            f"{names[0]} end with {corrections[-1][1]} steps, but {names[1]} is {steps or 'not set'}"
        )
    architecture = find(settings.get("arch", DEFAULT))
    if not architecture.trainable and not settings.get("init_from"):
        faults.append(
            f"{called('arch')} {architecture.name} can only be fine-tuned, with {called('init_from')}; "
            f"a new model can be {', '.join(TRAINABLE)}"
        )
    members = settings.get("members", 1)
    if settings.get("steps") and settings["steps"] < members:
        faults.append(
            f"{called('members')} {members} needs at least {members} steps, one for each model: "
            f"{called('steps')} is {settings['steps']}"
        )
    if members > 1 and settings.get("init_from"):
        both = f"{called('members')} and {called('init_from')}"
        faults.append(f"{both} cannot be combined: members begin from random weights")
    if settings.get("shard"):
        if members > 1:
            both = f"{called('shard')} and {called('members')} {members}"
            faults.append(f"{both} cannot be combined: a sharded run trains a single model")
        if settings.get("compile") == "on":
            both = f"{called('shard')} and {called('compile')} on"
            faults.append(f"{both} cannot be combined: a sharded model is trained without compiled code")
    if settings.get("bias") and "bias" not in architecture.options:
        others = " or ".join(f"--arch {name}" for name, it in ARCHITECTURES.items() if "bias" in it.options)
        faults.append(f"{architecture.name} has no biases: leave --bias out or use {others}")
    if settings.get("width") and settings.get("heads") and not settings.get("init_from"):
        even = architecture.parts["positions"] == "rotary"
        faults += shape_faults(settings["width"], settings["heads"], even=even)
    return faults


def _value_fault(name: str, value: Any, known: Mapping[str, Knob], called: str) -> str | None:
    if name not in known:
        return f"unknown setting {called}{did_you_mean(name, known)}"
    if name == "corrections":
        return None if is_course(value) else f"{called} must be pairs of whole numbers in ascending order"
    knob = known[name]
    if not _has_type(value, knob.kind):
        return f"{called} must be {_TYPE_NAMES[knob.kind]}, not {value!r}"
    if name == "name":
        fault = name_fault(value)
        return fault and f"{called} '{value}' {fault}"
    if name == "encoding":
        fault = encoding_fault(value)
        return fault and f"{called}: {fault}"
    if name == "time":
        try:
            return None if parse_duration(value) > 0 else f"{called} must be above 0"
        except ValueError as error:
            return f"{called}: {error}"
    if name == "arch" and value in ARCHITECTURES:
        return None  # which also has those that are only fine-tuned
    return knob.fault(value, called)


_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "a list of texts",
}


def _has_type(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is tuple:
        return isinstance(value, tuple | list) and all(isinstance(part, str) for part in value)
    return isinstance(value, kind)

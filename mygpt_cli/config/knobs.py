"""How a setting is declared, for training and sampling: a field of a dataclass, with its help and range."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mygpt_cli.base.errors import did_you_mean

SHOWN_BELOW = 1_000_000  # a higher limit only guards against nonsense, and help does not name it


def knob(help: str, group: str, default: Any = MISSING, **details: Any) -> Any:  # noqa: A002
    """Declare a setting: its help, its group, its default (none: it is chosen), and what else a `Knob` has.

    That is its limits, `at_least`, `above`, `at_most`, `below` and `choices`; `expert`, for what `--help`
    leaves to `--help-all`; `means`, what the default amounts to; and `formerly`, its name in earlier
    versions.
    """
    return field(default=default, metadata={"help": help, "group": group, **details})


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A setting: its type (int, float, bool, str, or tuple of these), and what values it may take.

    `default` is MISSING where the value is chosen when it is not given; `means` says in words what it amounts
    to. Only `--help-all` shows those for an `expert`.
    """

    name: str
    kind: type
    default: Any
    help: str
    group: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    expert: bool = False
    means: str = ""
    formerly: str = ""

    @property
    def flag(self) -> str:
        """How it is called on the command line."""
        return flag_of(self.name)

    @property
    def given(self) -> Any:
        """The value that it has when it is not given; None where that is chosen."""
        return None if self.default is MISSING else self.default

    @property
    def explained(self) -> str:
        """Its help, with its range and its default behind it."""
        return explained(self.help, self._range(), self._default())

    def _range(self) -> str:
        """Say which values it may take, in words; nothing where any will do."""
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        low, high = self.at_least, self.at_most
        low = None if low is not None and low <= -SHOWN_BELOW else low
        high = None if high is not None and high >= SHOWN_BELOW else high
        if low is not None and high is not None:
            return f"{low:,g} to {high:,g}"
        below = None if self.below is not None and self.below >= SHOWN_BELOW else self.below
        limits = {"at least": low, "above": self.above, "at most": high, "below": below}
        return ", ".join(f"{word} {limit:,g}" for word, limit in limits.items() if limit is not None)

    def _default(self) -> str:
        """Say what it is when it is not given; nothing for what is then simply off."""
        value = self.given
        if value in (None, (), "") or value is False:
            return self.means or ("automatic" if self.default is MISSING else "")
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{shown}, {self.means}" if self.means else shown

    def fault(self, value: Any, called: str = "") -> str | None:
        """Say what is wrong with a value of the right type, or None; `called` is its flag by default."""
        called = called or self.flag
        if self.choices and value not in self.choices:
            near = did_you_mean(str(value), self.choices)
            return f"{called} must be one of {', '.join(self.choices)}, not '{value}'{near}"
        checks: tuple[tuple[float | None, str, Callable[[Any, Any], bool]], ...] = (
            (self.at_least, "at least", operator.ge),
            (self.above, "above", operator.gt),
            (self.at_most, "at most", operator.le),
            (self.below, "below", operator.lt),
        )
        for limit, text, holds in checks:
            if limit is not None and not holds(value, limit):
                shown = f"{value:g}" if isinstance(value, float) else str(value)
                return f"{called} must be {text} {limit:g}, not {shown}"
        return None

    def parse(self, text: str) -> Any:
        """Turn the text of a flag or variable into a value, one entry of a tuple; ValueError if it cannot."""
        if self.kind is bool:
            known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
            if text.lower() not in known:
                raise ValueError(f"'{text}' is neither true nor false")
            return known[text.lower()]
        if self.kind is int and (short := re.fullmatch(r"(\d{1,15}(?:\.\d+)?)([kM])", text)):
            return round(float(short[1]) * {"k": 1e3, "M": 1e6}[short[2]])
        if self.kind in (int, float):
            try:
                return self.kind(text.replace("_", ""))
            except ValueError:
                what = "a whole number" if self.kind is int else "a number"
                raise ValueError(f"'{text}' is not {what}") from None
        return (text,) if self.kind is tuple else text


def explained(text: str, limits: str = "", default: str = "") -> str:
    """Return the help of a flag: what it does, and in parentheses its range and its default."""
    parts = [limits] if limits else []
    parts += [f"default: {default}"] if default else []
    return f"{text.rstrip('.')} ({'; '.join(parts)})." if parts else text


@cache
def knobs(owner: type) -> Mapping[str, Knob]:
    """Return every setting of a dataclass by name, in the order of their groups."""
    hints = get_type_hints(owner)
    return {
        each.name: Knob(name=each.name, kind=_kind(hints[each.name]), default=each.default, **each.metadata)
        for each in fields(owner)
    }


def former_names(owner: type) -> dict[str, str]:
    """Return how settings were called in earlier versions, each with its name of now."""
    return {knob.formerly: name for name, knob in knobs(owner).items() if knob.formerly}


def under_present_names(owner: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of an earlier version by their names of now; where both are there, the present one."""
    former = former_names(owner)
    return {
        former.get(name, name): value for name, value in settings.items() if former.get(name) not in settings
    }


def _kind(hint: Any) -> type:
    if get_origin(hint) is UnionType:
        hint = next(part for part in get_args(hint) if part is not NoneType)
    kind: type = get_origin(hint) or hint
    return kind


def flag_of(name: str) -> str:
    """Return how a setting is called on the command line."""
    return f"--{name.replace('_', '-')}"

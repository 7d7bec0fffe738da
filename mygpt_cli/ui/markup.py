"""What pages and pictures share: escaped text, and the styles of a terminal as CSS."""

import re
from html import escape as escape_html

from rich.color import ColorType
from rich.style import Style

_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_DARK = {
    **{"ink": "#e6edf3", "dim": "#9aa4b2", "grid": "#2d333b", "page": "#0d1117"},
    **{"black": "#768390", "red": "#f87171", "green": "#4ade80", "yellow": "#facc15"},
    **{"blue": "#60a5fa", "magenta": "#e879f9", "cyan": "#22d3ee", "white": "#e6edf3"},
}
_LIGHT = {
    **{"ink": "#1f2328", "dim": "#636c76", "grid": "#e5e7eb", "page": "#ffffff"},
    **{"black": "#1f2328", "red": "#b91c1c", "green": "#15803d", "yellow": "#a16207"},
    **{"blue": "#1d4ed8", "magenta": "#a21caf", "cyan": "#0e7490", "white": "#636c76"},
}


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


SCHEME = f"""
:root {{ color-scheme: light dark; {_variables(_LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(_DARK)} }} }}
.page {{ fill: var(--page); }}
.screen {{ font: 14px/1.35 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }}
.screen text {{ fill: var(--ink); white-space: pre; }}
.bold {{ font-weight: bold; }}
.italic {{ font-style: italic; }}
.underline {{ text-decoration: underline; }}
.dim {{ opacity: .65; }}
"""

# What neither XML nor HTML may hold, even escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def escape(text: str) -> str:
    """Return text that stands for itself in XML and HTML, between tags and in a quoted attribute."""
    return escape_html(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))


def style_of(style: Style | None) -> str:
    """Return the attributes that give an element a terminal's style, led by a space; "" for none."""
    classes, rules = classes_and_rules(style)
    attributes = f' class="{" ".join(classes)}"' if classes else ""
    return attributes + (f' style="{rules}"' if rules else "")


def classes_and_rules(style: Style | None) -> tuple[list[str], str]:
    """Return the classes that a terminal's style has in SCHEME, and the CSS for its colours."""
    if style is None:
        return [], ""
    classes = [name for name in ("bold", "italic", "underline", "dim") if getattr(style, name)]
    front, back = _colour(style, "color"), _colour(style, "bgcolor")
    if style.reverse:
        front, back = back or "var(--page)", front or "var(--ink)"
    rules = [f"color: {front}; fill: {front}"] if front else []
    rules += [f"background: {back}"] if back else []
    return classes, "; ".join(rules)


def _colour(style: Style, which: str) -> str:
    colour = getattr(style, which)
    if colour is None or colour.type is ColorType.DEFAULT:
        return ""
    if colour.number is not None and colour.number < 16:
        return f"var(--{_NAMES[colour.number % 8]})"
    return str(colour.get_truecolor().hex)

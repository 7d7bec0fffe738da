"""One page in one file: a frame, one style, one script, and what was recorded as data.

A page runs its own script and no other, loads nothing, and sends nothing: its policy names the script and the
style by their hashes. What was recorded goes in as JSON that cannot end its element, and the script only ever
writes it as text.
"""

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from mygpt_cli.ui.markup import SCHEME, escape
from mygpt_cli.ui.svg import CHART_STYLE
from mygpt_cli.ui.text import one_line

POLICY = "default-src 'none'; style-src '{style}'; script-src {script}; base-uri 'none'; form-action 'none'"
# What could end the element of a script, or a line of it, written as JSON may write it.
_UNSAFE = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


@dataclass(frozen=True)
class Exploration:
    """What can be explored of a view: the scripts that show it, and what they show, as plain JSON values."""

    scripts: tuple[str, ...]
    data: dict[str, Any]


def make_page(title: str, model: str, screen: str, style: str, exploration: Exploration | None = None) -> str:
    """Return a page of a view of a model.

    `screen` is the view as static HTML, with the rules of `style`; where there is something to explore, it
    is for readers without a script.
    """
    css = f"{SCHEME}{CHART_STYLE}{_part('page.css')}{style}"
    script = "" if exploration is None else "".join(map(_part, ("common.js", *exploration.scripts)))
    return Template(_part("page.html")).substitute(
        policy=POLICY.format(style=_hash(css), script=f"'{_hash(script)}'" if script else "'none'"),
        title=escape(one_line(title)),
        heading=escape(one_line(title[:1].upper() + title[1:])),
        model=f'<p class="model">{escape(one_line(model))}</p>' if model else "",
        style=css,
        body=screen if exploration is None else _explored(screen, script, exploration.data),
    )


def _explored(screen: str, script: str, data: dict[str, Any]) -> str:
    return (
        "<noscript>\n<p>Without a script, this page shows what the terminal shows.</p>\n"
        f"{screen}\n</noscript>"
        f'\n<div id="explore"></div>\n<script type="application/json" id="data">{to_json(data)}</script>'
        f"\n<script>{script}</script>"
    )


def to_json(data: Any) -> str:
    """Return JSON that may stand in an element of a page: compact, in ASCII, null for what is not finite."""
    text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)
    return text.translate(_UNSAFE)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def _part(name: str) -> str:
    return (files("mygpt_cli.ui.pages") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

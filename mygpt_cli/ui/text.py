"""The one place where text from outside becomes safe and visible on a terminal.

Nothing that came from a file, a model, a prompt or a folder's name is printed without passing here. What
cannot be shown as itself becomes a picture (`␛`) or its code: `<U+202E>`, or `<E2 80>` for bytes that are not
UTF-8. A text that contains such a picture as its own character shows that one by its code.
"""

import re
import unicodedata

from rich.cells import cell_len, set_cell_size

# What a terminal acts on, or may: controls, bidirectional marks and line separators, annotations, tags,
# surrogates.
_ACTIVE = (
    "\x00-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f"
    "\ufff9-\ufffb\U000e0000-\U000e0fff\ud800-\udfff"
)
_BLANK_LETTERS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
_PICTURES = {chr(code): chr(0x2400 + code) for code in range(0x20)} | {"\x7f": "␡"}
_LINE_PICTURES = _PICTURES | {"\n": "↵", "\t": "⇥"}
_TOKEN_PICTURES = _LINE_PICTURES | {" ": "␣"}
QUOTED = 20  # cells of a token within a sentence

_BYTES = re.compile("[\udc80-\udcff]+")
_UNSAFE = re.compile(f"[{_ACTIVE}]")


def safe(text: str) -> str:
    """Make running text safe to print: lines and tabs stay, what a terminal would act on is shown."""
    shown = _UNSAFE.sub(lambda found: found[0] if found[0] in "\n\t" else _code(found[0], _PICTURES), text)
    return _BYTES.sub(_bytes_code, shown)


def one_line(text: str) -> str:
    """Show running text on one line: spaces stay, newlines, tabs and all that is invisible are shown."""
    return _visible(text, _LINE_PICTURES)


def visible(token: str | bytes) -> str:
    """Show a token so that every character of it can be seen and told apart, on one line."""
    text = token.decode("utf-8", "surrogateescape") if isinstance(token, bytes) else token
    return _visible(text, _TOKEN_PICTURES)


def _visible(text: str, pictures: dict[str, str]) -> str:
    shown, base = "", False
    for char in text:
        mark = unicodedata.category(char).startswith("M")
        if char in pictures or char in pictures.values() or _is_hidden(char):
            shown, base = shown + _code(char, pictures), False
        else:
            # A mark with nothing to stand on would change its neighbour.
            shown, base = shown + ("◌" if mark and not base else "") + char, True
    return _BYTES.sub(_bytes_code, shown)


def _is_hidden(char: str) -> bool:
    if char == " " or "!" <= char <= "~":
        return False
    category = unicodedata.category(char)
    selector = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    return category[0] in "CZ" or selector or char in _BLANK_LETTERS


def _code(char: str, pictures: dict[str, str]) -> str:
    if _BYTES.match(char):
        return char  # shown together with the other bytes beside it
    return pictures.get(char) or f"<U+{ord(char):04X}>"


def _bytes_code(found: re.Match[str]) -> str:
    return "<" + found[0].encode("ascii", "surrogateescape").hex(" ").upper() + ">"


def head(text: str, cells: int) -> str:
    """Return the beginning of a shown line, `…` at its end, where it is wider than this many cells."""
    return text if cell_len(text) <= cells else set_cell_size(text, max(0, cells - 1)).rstrip() + "…"


def quoted(token: str | bytes) -> str:
    """Return a token for a sentence: made visible, in quotes, and not too long."""
    return f"'{head(visible(token), QUOTED)}'"


def tail(text: str, cells: int) -> str:
    """Return the end of a shown line, `…` at its beginning, where it is wider than this many cells."""
    if cell_len(text) <= cells:
        return text
    kept = text[-max(1, cells) :]
    while kept and cell_len(kept) > cells - 1:
        kept = kept[1:]
    return "…" + kept

"""Text from outside never acts on the terminal, and every character of a token can be seen."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mygpt_cli.ui.text import head, one_line, quoted, safe, tail, visible

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
anything = st.text(st.characters(categories=None, exclude_categories=()))


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" the", "␣the"),
        ("a\nb", "a↵b"),
        ("\t\r\n", "⇥␍↵"),
        ("\x1b[31m", "␛[31m"),
        ("\x7f\x00", "␡␀"),
        ("\x9b2J", "<U+009B>2J"),
        ("a\u202eb", "a<U+202E>b"),
        ("\u200b", "<U+200B>"),
        ("\u00a0", "<U+00A0>"),
        ("\ud800", "<U+D800>"),
        ("\U000e0041", "<U+E0041>"),
        ("\u0301", "◌\u0301"),
        ("e\u0301", "e\u0301"),
        ("\n\u0301", "↵◌\u0301"),
        ("␣", "<U+2423>"),
        ("日本", "日本"),
        ("😀", "😀"),
        ("[bold]", "[bold]"),
        (b"\xe2\x80", "<E2 80>"),
        (b"\x80abc\xff\xfe", "<80>abc<FF FE>"),
        ("é".encode(), "é"),
        ("", ""),
    ],
)
def test_tokens_become_visible(token: str | bytes, shown: str) -> None:
    assert visible(token) == shown


def test_running_text_keeps_its_lines_and_loses_its_powers() -> None:
    assert safe("a b\n\tc\x1b]0;title\x07") == "a b\n\tc␛]0;title␇"
    assert safe("\r\b\x9b\u2028" + BIDI).isprintable()
    assert safe("caf\udcc3\udca9 \udcff") == "caf<C3 A9> <FF>"
    assert safe("👨\u200d👩 می\u200cخواهم") == "👨\u200d👩 می\u200cخواهم"


def test_one_line_keeps_spaces_only() -> None:
    assert one_line("a b\nc\td\x1b") == "a b↵c⇥d␛"


@given(st.one_of(anything, st.binary()))
def test_no_token_can_act_or_hide(token: str | bytes) -> None:
    shown = visible(token)
    without_bytes = re.sub("<[0-9A-F]{2}( [0-9A-F]{2})*>", "", shown)
    assert not any(unicodedata.category(char)[0] in "CZ" for char in without_bytes)
    assert bool(shown) == bool(token)
    if shown:
        assert cell_len(shown) > 0


@given(anything)
def test_no_running_text_can_act(text: str) -> None:
    shown = safe(text)
    assert not any(
        char in BIDI or unicodedata.category(char) in ("Cc", "Cs") for char in shown if char not in "\n\t"
    )
    assert shown.count("\n") == text.count("\n")
    shown.encode()
    assert safe(shown) == shown


@given(st.text("abc123éß日😀.,!?", max_size=30))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == safe(text) == one_line(text) == text
    assert visible(text.encode()) == text


@given(st.text(max_size=60).map(one_line), st.integers(2, 40))
def test_a_shortened_line_fits(line: str, cells: int) -> None:
    beginning, end = head(line, cells), tail(line, cells)
    assert max(cell_len(beginning), cell_len(end)) <= cells
    assert (beginning == line) == (end == line) == (cell_len(line) <= cells)
    assert line.endswith(end.removeprefix("…"))


def test_a_token_in_a_sentence_is_quoted() -> None:
    assert [quoted(token) for token in (b" be", ", ", b"\xe2\x80")] == ["'␣be'", "',␣'", "'<E2 80>'"]
    assert quoted("a" * 21) == f"'{'a' * 19}…'"

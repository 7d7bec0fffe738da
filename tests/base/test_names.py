"""Names of runs, out of names of files."""

import unicodedata
from pathlib import Path
from unittest.mock import patch

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base import names
from mygpt_cli.base.names import name_fault, name_of

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My Notes", "My-Notes"),
        ("कविता हिंदी", "कविता-हिंदी"),
        ("สวัสดี", "สวัสดี"),
        ("தமிழ்", "தமிழ்"),
        ("বাংলা", "বাংলা"),
        ("مَرْحَبًا", "مَرْحَبًا"),
        ("שָׁלוֹם", "שָׁלוֹם"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # joiners are part of words
        ("ශ්\u200dරී", "ශ්\u200dරී"),
        ("cafe\u0301", "café"),
        ("Привет, мир!", "Привет-мир"),
        ("東京 (1)", "東京-1"),
        ("한국어", "한국어"),
        ("a\u202eb\x1bc\nd", "a-b-c-d"),
        ('a<b>c:d"e/f\\g|h?i*j', "a-b-c-d-e-f-g-h-i-j"),
        ("I ❤️ you 👩‍👧", "I-you"),
        ("\u0301\u200d", "text"),
        ("\udcc3\udca9t", "t"),
        ("---", "text"),
        ("a\u3164b", "a-b"),
        ("con.final", "con-final"),
        ("contents.v2", "contents.v2"),
        ("a" * 99, "a" * 60),
        ("e" + "\u0317" * 500, "text"),
        ("क्षि" * 50, "क्षि" * 15),
        ("𠀀" * 99, "𠀀" * 50),
    ],
)
def test_the_name_of_a_run(text: str, name: str) -> None:
    assert name_of(text) == name


WORDS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cn"]),
        st.sampled_from("कक्षिहिंาัำ\u200d\u200c\u0301가👩️𠀀. -_/\\:*CON"),
    ),
    max_size=90,
)


@given(WORDS)
def test_any_file_gives_a_name_for_a_folder(text: str) -> None:
    name = name_of(text)
    assert name_of(name) == name
    assert name_fault(name) is None
    assert len(f"{name}-and-1000000-more-100000".encode()) <= 255
    assert name.strip(" -._") == name != ""
    assert f"{name}-001".split(".")[0].lower() not in RESERVED
    for char in name:
        assert unicodedata.category(char)[0] in "LMN" or char in "-._\u200c\u200d"


@given(WORDS)
def test_letters_are_kept_in_order_and_none_is_cut_in_two(text: str) -> None:
    name = name_of(text)
    with patch.multiple(names, MOST_BYTES=10**9, MOST_CHARACTERS=10**9):
        whole = name_of(text)
    graphemes = regex.findall(r"\X", whole)
    assert name == "text" or name in {"".join(graphemes[:n]) for n in range(len(graphemes) + 1)}
    letters = r"(?V1)[\p{L}\p{N}--[\u115f\u1160\u3164\uffa0]]"
    given = regex.findall(letters, unicodedata.normalize("NFC", text))
    assert regex.findall(letters, whole) == (given or list("text"))


@pytest.mark.parametrize("name", ["कविता", "a b", ".hidden", "x+y", "é" * 100, "می\u200cخواهم"])
def test_names_that_can_be_given(name: str, tmp_path: Path) -> None:
    assert name_fault(name) is None
    (tmp_path / f"{name}-001").mkdir()


@pytest.mark.parametrize(
    "name",
    ["", " a", "a/b", "..\\a", "a\n", "a\u202e", "\u0301a", "a" * 101, "字" * 67, "aux.b", "a:b", "\u200da"],
)
def test_names_that_cannot_be_given(name: str) -> None:
    assert name_fault(name)

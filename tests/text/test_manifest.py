"""What is said of a text that is no longer the one recorded."""

from pathlib import Path

import pytest

from mygpt_cli.text.corpus import Corpus, open_corpus
from mygpt_cli.text.manifest import changes, record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three texts in `texts`."""
    (tmp_path / "texts").mkdir()
    for name in "abc":
        (tmp_path / "texts" / name).write_text(f"The text of {name}, so that there is one.", encoding="utf-8")
    return tmp_path


def corpus(folder: Path) -> Corpus:
    return open_corpus([str(folder / "texts")])


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a", "The text of a, so that there is one..", "a' has 1 character more"),
        ("b", "Short.", "b' has 30 characters fewer"),
        ("c", "The text of C, so that there is one.", "c' has a different text of the same length"),
        ("c", None, "c' is no longer part of it"),
        ("d", "More.", "d' is new"),
    ],
)
def test_what_changed_is_named(name: str, text: str | None, told: str, folder: Path) -> None:
    record(folder, corpus(folder))
    path = folder / "texts" / name
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    lines = changes(folder, corpus(folder))
    assert len(lines) == 1
    assert lines[0].endswith(told)


def test_another_order_is_named(folder: Path) -> None:
    record(folder, corpus(folder))
    (folder / "texts" / "a").rename(folder / "texts" / "x")
    assert changes(folder, corpus(folder)) == [
        "its files are in another order, or repeated another number of times"
    ]


def test_another_split_is_named(folder: Path) -> None:
    record(folder, corpus(folder))
    other = open_corpus([str(folder / "texts")], val_fraction=0.3)
    assert changes(folder, other) == ["it is split differently into training and validation"]


def test_many_changes_are_counted(folder: Path) -> None:
    record(folder, corpus(folder))
    for number in range(25):
        (folder / "texts" / f"{number}").write_text(f"Number {number}.", encoding="utf-8")
    lines = changes(folder, corpus(folder))
    assert len(lines) == 11
    assert lines[-1] == "and 15 more"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"files": [{"name": 3}]}', '{"files": 3}'])
def test_without_a_record_nothing_is_known(content: str | None, folder: Path) -> None:
    if content is not None:
        (folder / "text.json").write_text(content, encoding="utf-8")
    assert changes(folder, corpus(folder)) == []

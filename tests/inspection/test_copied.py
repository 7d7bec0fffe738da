"""Copied passages, against a slow search that anyone can check."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.inspection import copied as module
from mygpt_cli.inspection.copied import Copied, Passage, find_copied
from mygpt_cli.text.corpus import Part, open_corpus
from mygpt_cli.text.document import Document

TEXTS = st.text(alphabet="ab\n", min_size=1, max_size=40)


def part_of(texts: Sequence[str], stop: int | None = None) -> Part:
    documents = tuple(Document(str(n), text.encode()).measured() for n, text in enumerate(texts))
    total = sum(map(len, texts))
    return Part(documents, 0, total if stop is None else stop, 0)


def slowly(text: str, texts: Sequence[str], least: int) -> Copied:
    """Look up every stretch with str.find, and join those whose places follow one another."""
    found: list[tuple[int, int] | None] = []
    for start in range(len(text) - least + 1):
        stretch = text[start : start + least]
        found.append(next(((n, t.find(stretch)) for n, t in enumerate(texts) if stretch in t), None))
    passages: list[Passage] = []
    covered: set[int] = set()
    reached = start = 0
    while start < len(found):
        first = found[start]
        if first is None:
            start += 1
            continue
        end = start + 1
        while end < len(found) and found[end] == (first[0], first[1] + end - start):
            end += 1
        stop = end - 1 + least
        if stop > reached:
            document, offset = first
            line = texts[document][:offset].count("\n") + 1
            passages.append(Passage(start, stop, str(document), offset, line))
            covered |= set(range(start, stop))
            reached = stop
        start = end
    return Copied(len(text), least, len(covered), tuple(passages))


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=4), st.integers(1, 8), st.integers(1, 9))
def test_what_a_slow_search_finds(text: str, texts: list[str], least: int, chunk: int) -> None:
    """Also where the training text comes in chunks shorter than a stretch."""
    part = part_of(texts)
    whole = slowly(text, texts, least)
    assert find_copied(text, part, least=least) == whole
    assert find_copied(text, _Chopped(part, chunk), least=least) == whole  # type: ignore[arg-type]


class _Chopped:
    """A part that comes in small chunks."""

    def __init__(self, part: Part, size: int) -> None:
        self.part, self.size = part, size
        self.documents, self.characters = part.documents, part.characters

    def chunks(self):  # type: ignore[no-untyped-def]
        for text, ends in self.part.chunks():
            for start in range(0, len(text), self.size):
                yield module_chunk(text[start : start + self.size], ends and start + self.size >= len(text))


def module_chunk(text: str, ends: bool):  # type: ignore[no-untyped-def]
    from mygpt_cli.text.corpus import Chunk

    return Chunk(text, ends)


def test_only_what_was_trained_on_counts() -> None:
    texts = ["one two three four", "five six seven"]
    assert find_copied("two three", part_of(texts), least=5).share == 1.0
    assert find_copied("two three", part_of(texts, stop=9), least=5).copied == 5  # "one two t" was trained on
    assert find_copied("four" + "five", part_of(texts), least=5).copied == 0  # never across two documents


def test_wide_characters_and_other_planes_count_as_one() -> None:
    (passage,) = find_copied("x漢字😀é", part_of(["a\n漢字😀é"]), least=4).passages
    assert (passage.start, passage.stop, passage.offset, passage.line) == (1, 5, 2, 2)


def test_equal_fingerprints_are_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    def blind(codes: np.ndarray, least: int) -> np.ndarray:
        return np.zeros(max(0, len(codes) - least + 1), np.uint64)

    monkeypatch.setattr(module, "_fingerprints", blind)
    assert find_copied("abcd", part_of(["wxyz"]), least=4).copied == 0


def test_repetition_takes_no_longer(tmp_path: Path) -> None:
    """A million equal characters on both sides: every stretch is one and the same."""
    path = tmp_path / "same.txt"
    path.write_text("-" * 1_000_000, encoding="utf-8")
    corpus = open_corpus([str(path)])
    copied = find_copied("-" * 300_000, corpus.train)
    assert copied.share == 1.0

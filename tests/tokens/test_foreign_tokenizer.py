"""Tokenizers of every kind that people have: ids, bytes and cuts against AutoTokenizer's."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from mygpt_cli.base.errors import CheckpointError, TextError
from mygpt_cli.text.corpus import Chunk, open_corpus
from mygpt_cli.tokens import foreign_tokenizer
from mygpt_cli.tokens import tokenizer as tokenizer_module
from mygpt_cli.tokens.dataset import prepare
from mygpt_cli.tokens.foreign_tokenizer import ForeignTokenizer
from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.token_files import texts
from mygpt_cli.tokens.tokenizer import BytePairTokenizer, ModelIds, Tokenizer
from tests.helpers.foreign_tokenizers import (
    HARD,
    KINDS,
    LONG,
    random_strings,
    sentencepiece,
    template,
    train_text,
    write,
)
from tests.helpers.rules import of_newer_transformers

COMMON = ("llama 3", "smollm2", "qwen2", "llama 2")
SPECIALS = "<0x0A> <s> [INST] <unk>"  # they are ordinary text to us
Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    @cache
    def made(kind: str) -> Path:
        place = tmp_path_factory.mktemp("kind")
        KINDS[kind](place)
        return place

    return made


def both(folder: Path) -> tuple[Tokenizer, Any]:
    return load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)


def whole(ours: Tokenizer, text: str) -> list[int]:
    return [*ours.prefix, *ours.encode(text), *ours.suffix]


@of_newer_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_auto_tokenizer(kind: str, folder: Folders) -> None:
    ours, theirs = both(folder(kind))
    strings = [*random_strings(700), *HARD, *(LONG if kind in COMMON else LONG[:1])]
    for text, ids in zip(strings, theirs(strings)["input_ids"], strict=True):
        if text != SPECIALS:
            assert whole(ours, text) == ids, text[:50]


@of_newer_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_text_is_theirs_and_no_byte_is_lost(kind: str, folder: Folders) -> None:
    ours, theirs = both(folder(kind))
    for text in [*random_strings(150, seed=1), *HARD]:
        if kind == "added tokens" and "é" in text:
            continue  # they make a byte of this token's name
        ids = whole(ours, text)
        known = theirs.decode(ids)
        assert ours.decode(ids) == known
        assert ours.decode_bytes(ids) == b"".join(map(ours.token_bytes, ids))
        if ours.prefix:
            assert known.startswith(theirs.bos_token or theirs.convert_ids_to_tokens(ids[0]))


def test_what_a_text_begins_with_is_the_default_of_transformers(folder: Folders) -> None:
    for kind, names in (("llama 3", ["<|begin_of_text|>"]), ("llama 2", ["<s>"]), ("qwen2", [])):
        ours, theirs = both(folder(kind))
        assert theirs("")["input_ids"] == list(ours.prefix) == theirs.convert_tokens_to_ids(names)
        assert ours.suffix == ()
    ours, theirs = both(folder("an end after each text"))
    assert (ours.prefix, ours.suffix) == ((1,), (2,))


def test_the_space_that_encoding_puts_in_front_is_no_text(folder: Folders) -> None:
    ours, theirs = both(folder("llama 2"))
    ids = ours.encode("the cat")
    assert (ours.decode_bytes(ids), ours.text_bytes(ids)) == (b" the cat", b"the cat")
    assert ours.decode(ids) == theirs.decode(ids) == "the cat"
    assert ours.decode_bytes(ours.encode(" the cat", begins=False)) == b" the cat"
    assert ours.decode_bytes(ours.encode("the cat", begins=False)) == b"the cat"
    byte = ours.encode("\x07")[-1]
    assert (ours.token_bytes(byte), theirs.convert_ids_to_tokens(byte)) == (b"\x07", "<0x07>")


@of_newer_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_cuts_leave_the_tokens_as_they_are(
    kind: str, folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = both(folder(kind))
    reach = ours.reach
    ours.reach, ours.piece = min(reach, 400), 20
    if isinstance(ours, ForeignTokenizer) and ours.vocabulary.cut == "nowhere":  # type: ignore[union-attr]
        ours.reach = 10**6
    for seed in range(60):
        text = train_text(seed, words=40).strip() + random_strings(1, seed)[0] + train_text(seed, words=30)
        step = 1 + seed % 17
        chunks = [Chunk(text[i : i + step], i + step >= len(text)) for i in range(0, len(text), step)]
        pieces = [piece.text for piece in texts(chunks, 30, ours)]
        assert "".join(pieces) == text
        ids = [ours.encode_array(piece, begins=not place) for place, piece in enumerate(pieces)]
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert np.concatenate(ids).tolist() == expected
        assert ours.encode(text) == expected


def test_documents_begin_and_end_with_the_tokenizers_own_tokens(
    folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"the cat {name}\n" * 3000, encoding="utf-8", newline="")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    ours = load_tokenizer(folder("llama 2"), ids=ModelIds(400, 1, (2,)))
    corpus = open_corpus(files, val_fraction=0.1)
    data = prepare(corpus, tokenizer="bpe", existing=ours, cache=tmp_path / "cache")
    first, second = (Path(name).read_text(encoding="utf-8") for name in files)
    rest = corpus.train.characters - len(first)
    expected = [1, *ours.encode(first), 2, 1, *ours.encode(second[:rest])]
    assert data.train.tolist() == expected
    assert data.val.tolist() == [1, *ours.encode(second[rest:]), 2]
    ended = load_tokenizer(folder("an end after each text"), ids=ModelIds(400, 1, ()))
    single = prepare(open_corpus(files[:1]), tokenizer="bpe", existing=ended, cache=tmp_path / "cache")
    assert (single.train[0], single.val[0], single.val[-1]) == (1, 1, 2)
    assert 2 not in single.train


def test_what_was_interrupted_goes_on_within_a_document(
    folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text(train_text(words=60_000), encoding="utf-8", newline="")
    ours = load_tokenizer(folder("llama 2"), ids=ModelIds(400, 1, (2,)))
    corpus = open_corpus([str(tmp_path / "a.txt")])
    whole = prepare(corpus, tokenizer="bpe", existing=ours, cache=tmp_path / "whole")
    monkeypatch.setattr("mygpt_cli.tokens.token_files.BLOCK", 1)
    calls = 0

    def stop(stage: str, fraction: float) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    for progress in (stop, lambda *_: None):
        try:
            data = prepare(
                corpus, tokenizer="bpe", existing=ours, cache=tmp_path / "cache", progress=progress
            )
        except KeyboardInterrupt:
            continue
    assert data.train.tolist() == whole.train.tolist()


def test_what_the_model_lacks_is_refused(tmp_path: Path) -> None:
    made = sentencepiece(added=["zebra"])
    write(tmp_path, made)
    size = load_tokenizer(tmp_path).own_size
    ours = load_tokenizer(tmp_path, ids=ModelIds(size - 1, 1, ()))
    with pytest.raises(TextError, match="'zebra', a token that the model does not have"):
        ours.encode("a zebra")
    with pytest.raises(TextError, match="half of a surrogate pair"):
        ours.encode("a\ud83d")
    with pytest.raises(CheckpointError, match="the tokenizer has"):
        load_tokenizer(tmp_path, ids=ModelIds(100, 1, ()))
    made.add_special_tokens(["<bos>"])
    made.post_processor = template(made, "<bos>")
    write(tmp_path, made)
    with pytest.raises(CheckpointError, match="puts '<bos>' around every text"):
        load_tokenizer(tmp_path, ids=ModelIds(size, 1, ()))


def test_only_what_needs_it_is_run_by_the_library(folder: Folders) -> None:
    ours = [load_tokenizer(folder(kind)) for kind in ("llama 3", "smollm2", "qwen2", "llama 2")]
    assert [isinstance(one, BytePairTokenizer) for one in ours] == [True, False, False, False]
    assert [bool(one.ranks) for one in ours] == [True, True, True, False]


def test_a_text_that_cannot_be_cut_is_cut_all_the_same(
    folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_module, "REACH", 1000)
    monkeypatch.setattr(foreign_tokenizer, "REACH", 1000)
    for kind in ("qwen2", "llama 3", "llama 2"):
        ours = load_tokenizer(folder(kind))
        ours.piece = 1000
        text = "abcat" * 3000
        assert ours.decode(ours.encode(text)) == text

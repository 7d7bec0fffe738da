import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.base.errors import TextError
from mygpt_cli.text.corpus import Chunk, Corpus, open_corpus
from mygpt_cli.tokens import token_files
from mygpt_cli.tokens.dataset import Dataset, prepare
from mygpt_cli.tokens.token_files import Done, learn, open_tokens, texts, write_tokens
from mygpt_cli.tokens.tokenizer import PIECE, Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer

PROSE = "The quick brown fox; it's 1234 jumps! 中文。 Über die Lücke 😀\r\n\r\n\tand more.\n" * 40
TOKENIZER = train_tokenizer("bpe", [PROSE], vocab_size=500)


def quiet(stage: str, fraction: float) -> None:
    """Hear nothing."""


# --- Pieces -------------------------------------------------------------------------------------------------


WORDS = st.lists(st.sampled_from(["word", " ", "\n", "it's", "123", "!?", "中。", "  ", "\r\n"]), max_size=40)


@given(st.lists(WORDS.map("".join), max_size=4), st.integers(1, 9), st.integers(1, 30))
def test_cuts_do_not_depend_on_the_chunks(contents: list[str], step: int, size: int) -> None:
    whole = [Chunk(content, True) for content in contents if content]
    parts = [
        Chunk(content[i : i + step], i + step >= len(content))
        for content, _ in whole
        for i in range(0, len(content), step)
    ]
    assert list(texts(parts, size)) == list(texts(whole, size))
    assert all(0 < len(text) <= size for text, _ in texts(whole, size))


SPACED = st.lists(
    st.sampled_from(["word", "The", "it's", "quick", "123", "!?", "中文。", "fox;\r\nend", "\tx"]),
    min_size=1,
    max_size=60,
).map(" ".join)


@given(SPACED, st.integers(12, 60), st.integers(1, 20))
def test_tokens_of_the_pieces_are_tokens_of_the_whole(text: str, size: int, step: int) -> None:
    chunks = [Chunk(text[i : i + step], i + step >= len(text)) for i in range(0, len(text), step)]
    ids = [token for piece, _ in texts(chunks, size) for token in TOKENIZER.encode(piece)]
    assert ids == TOKENIZER.encode(text)


# --- Tokens -------------------------------------------------------------------------------------------------


def corpus_of(tmp_path: Path, *contents: str) -> Corpus:
    names = [tmp_path / f"{i}.txt" for i in range(len(contents))]
    for name, content in zip(names, contents, strict=True):
        name.write_bytes(content.encode())
    return open_corpus([str(name) for name in names])


def tokenized(corpus: Corpus, cache: Path, **settings: Any) -> Dataset:
    return prepare(corpus, cache=cache, **({"tokenizer": "bpe"} | settings))


@pytest.mark.parametrize("spec", ["char", "bpe"])
def test_tokens_are_those_of_one_piece_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: str
) -> None:
    monkeypatch.setattr(token_files, "BLOCK", 3)
    corpus = corpus_of(tmp_path, PROSE * 90, "x", PROSE * 200)
    data = tokenized(corpus, tmp_path / "cache", tokenizer=spec)
    end = data.tokenizer.end_of_text
    for part, tokens in ((corpus.train, data.train), (corpus.val, data.val)):
        ids: list[int | None] = []
        for text, ends_document in texts(part.chunks()):
            ids += data.tokenizer.encode(text) + [end] * ends_document
        assert tokens.tolist() == ids


def test_merges_are_learned_from_a_sample_spread_over_a_large_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    corpus = corpus_of(tmp_path, "".join(f"the {n}th line\n" for n in range(100_000)))
    learned: list[str] = []

    def remember(spec: str, chunks: Any, **_: object) -> Tokenizer:
        learned.extend(chunks)
        return TOKENIZER

    monkeypatch.setattr(token_files, "train_tokenizer", remember)
    learn(corpus, "bpe", None, quiet)
    everything = [text for text, _ in texts(corpus.train.chunks())]
    assert learned == everything
    learned.clear()
    monkeypatch.setattr(token_files, "SAMPLE", corpus.train.characters // 3)
    learn(corpus, "bpe", None, quiet)
    places = [everything.index(text) for text in learned]
    assert set(np.diff(places).tolist()) <= {2, 3, 4}
    assert sum(map(len, learned)) == pytest.approx(corpus.train.characters / 3, abs=PIECE)
    learned.clear()
    learn(corpus, "char", None, quiet)
    assert sum(map(len, learned)) == corpus.train.characters + corpus.val.characters


def test_memory_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    with path.open("w", encoding="utf-8") as file:
        for i in range(1_000_000):
            file.write(f"line {i} of it\n")
    assert path.stat().st_size > 17_000_000
    tracemalloc.start()
    try:
        corpus = open_corpus([str(path)])
        write_tokens(tmp_path, corpus, learn(corpus, "char", None, quiet), quiet)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24_000_000


@pytest.mark.parametrize("text", ["a" * 1_000_000, " " * 1_000_000, "\n" * 1_000_000, "acgt" * 250_000])
def test_a_million_characters_in_one_piece(tmp_path: Path, text: str) -> None:
    data = tokenized(corpus_of(tmp_path, text), tmp_path / "cache")
    assert data.tokenizer.decode(data.train) + data.tokenizer.decode(data.val) == text


PARTS = st.sampled_from(
    [b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"a cat ", "é中😀".encode()]
)


@settings(max_examples=50)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(PARTS, max_size=20).map(b"".join),
        st.text(st.characters(codec="utf-8")).map(str.encode),
    )
)
def test_any_bytes_are_a_text_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "text.txt").write_bytes(content)
    for spec in ("char", "bpe"):
        try:
            data = tokenized(open_corpus([str(folder / "text.txt")]), folder / "cache", tokenizer=spec)
        except TextError as error:
            assert error.message
            assert error.hint
            continue
        ids = data.train.tolist() + data.val.tolist()
        assert data.tokenizer.decode(ids) == content.decode("utf-8-sig")


# --- Interruptions ------------------------------------------------------------------------------------------


class StopError(BaseException):
    """Stands in for Ctrl-C."""


@pytest.mark.parametrize("harm", ["none", "more", "less", "flip", "note", "tokenizer"])
@pytest.mark.parametrize("stop", [("train", 1), ("train", 3), ("val", 1)])
@pytest.mark.parametrize("spec", ["char", "bpe"])
def test_what_was_interrupted_is_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: str, stop: tuple[str, int], harm: str
) -> None:
    monkeypatch.setattr(token_files, "BLOCK", 2)
    corpus = corpus_of(tmp_path, PROSE * 90, "x", PROSE * 150)
    whole = tokenized(corpus, tmp_path / "whole", tokenizer=spec)
    encoded: list[int] = []
    calls = 0

    def watch(stage: str, fraction: float) -> None:
        nonlocal calls
        calls += stage == f"tokenizing the {token_files.CALLED[stop[0]]} text"
        if calls > stop[1]:
            raise StopError

    cache = tmp_path / "cache"
    with pytest.raises(StopError):
        tokenized(corpus, cache, tokenizer=spec, progress=watch)
    (folder,) = cache.iterdir()
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if harm == "more":
        with (folder / f"{stop[0]}.bin").open("ab") as file:
            file.write(b"odd")
    elif harm == "less":
        os.truncate(folder / "train.bin", 1000)
    elif harm == "flip":
        damaged = bytearray((folder / "train.bin").read_bytes())
        damaged[500] ^= 1
        (folder / "train.bin").write_bytes(damaged)
    elif harm == "note":
        os.truncate(folder / "meta.json", 20)
    elif harm == "tokenizer":
        os.truncate(folder / "tokenizer.json", 20)
    kind = type(whole.tokenizer)
    encode = kind.encode_array

    def counted(self: Tokenizer, text: str, **more: bool) -> np.ndarray:
        encoded.append(len(text))
        return encode(self, text, **more)

    monkeypatch.setattr(kind, "encode_array", counted)
    if harm in ("none", "more"):
        monkeypatch.setattr(token_files, "train_tokenizer", lambda *_, **__: pytest.fail("learned again"))
    data = tokenized(corpus, cache, tokenizer=spec)
    assert data.train.tolist() == whole.train.tolist()
    assert data.val.tolist() == whole.val.tolist()
    assert data.tokenizer.to_json() == whole.tokenizer.to_json()
    if harm in ("none", "more", "tokenizer"):
        done = sum(meta[name]["characters"] for name in ("train", "val") if name in meta)
        assert done > 0
        assert sum(encoded) == corpus.train.characters + corpus.val.characters - done


def test_a_fault_leaves_nothing(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, PROSE * 300)
    letters = train_tokenizer("char", ["abc"])
    with pytest.raises(TextError):
        tokenized(corpus, tmp_path / "cache", existing=letters)
    assert not list((tmp_path / "cache").iterdir())


def test_tokens_that_another_process_has_mapped_stay_as_they_are(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, PROSE)
    mapped = tokenized(corpus, tmp_path / "cache").train
    (folder,) = (tmp_path / "cache").iterdir()
    before = (folder / "train.bin").stat().st_ino
    (folder / "meta.json").unlink()
    assert (tokenized(corpus, tmp_path / "cache").train == mapped).all()
    assert (folder / "train.bin").stat().st_ino != before


@pytest.mark.parametrize(
    "note", [Done(5, -1, 0), Done(5, 2**70, 0), Done(5, 3, 0), Done(0, 0, 0), Done(5, 2, 1)], ids=str
)
def test_notes_that_cannot_be_true_are_not_believed(tmp_path: Path, note: Done) -> None:
    (tmp_path / "train.bin").write_bytes(b"abcd")
    assert open_tokens(tmp_path / "train.bin", np.dtype(np.uint16), note) is None


SLOWLY = """
import sys, time
from pathlib import Path
from mygpt_cli.tokens import token_files
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens.dataset import prepare
token_files.BLOCK = 1

def progress(stage, fraction):
    print(stage, fraction, flush=True)
    time.sleep(0.02)

prepare(open_corpus([sys.argv[1]]), tokenizer="bpe", cache=Path(sys.argv[2]), progress=progress)
"""


def slowly(corpus: Corpus, cache: Path) -> "subprocess.Popen[str]":
    document = corpus.train.documents[0]
    command = [sys.executable, "-c", SLOWLY, document.name, str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")


def heard(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stdout
    assert any(words in line for line in process.stdout), words


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of Unix")
def test_a_killed_process_is_gone_on_with_and_a_second_one_waits(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, PROSE * 400)
    whole = tokenized(corpus, tmp_path / "whole")
    cache = tmp_path / "cache"
    with slowly(corpus, cache) as killed:
        heard(killed, "tokenizing the training text 0.3")
        killed.send_signal(signal.SIGKILL)
        assert killed.stdout
        killed.stdout.read()
    with slowly(corpus, cache) as first:
        heard(first, "tokenizing the training text 0.3")
        said: list[str] = []
        data = tokenized(corpus, cache, progress=lambda stage, _: said.append(stage))
        assert set(said) == {"waiting for another process that tokenizes this text"}
        assert first.stdout
        first.stdout.read()
    assert first.returncode == 0
    assert data.train.tolist() == whole.train.tolist()
    assert data.val.tolist() == whole.val.tolist()
    assert len(list(cache.iterdir())) == 1

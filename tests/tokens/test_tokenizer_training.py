"""Making tokenizers: what is learned, what can be chosen, and what cannot be had."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiktoken

from mygpt_cli.base.errors import ResourceError, TextError, UsageError
from mygpt_cli.tokens.tokenizer_training import (
    MAX_TOKEN_BYTES,
    check_tokenizer,
    choose_vocab_size,
    train_tokenizer,
)
from tests.helpers.standins import corpus_text, learned


def test_learning_is_the_same_every_time_and_from_a_stream() -> None:
    whole = learned(600)
    pieces = (line + "\n" for line in corpus_text().split("\n"))
    assert train_tokenizer("bpe", [corpus_text()], vocab_size=600).to_json() == whole.to_json()
    assert train_tokenizer("bpe", iter([corpus_text()]), vocab_size=600).to_json() == whole.to_json()
    assert train_tokenizer("bpe", pieces, vocab_size=300).vocab_size == 300


def test_a_text_with_little_to_merge_gives_a_small_vocabulary() -> None:
    assert train_tokenizer("bpe", ["ab"], vocab_size=1000).vocab_size == 257
    assert train_tokenizer("bpe", ["ab"], vocab_size=1000, end_of_text=True).vocab_size == 258
    assert train_tokenizer("bpe", ["ab"], vocab_size=256).vocab_size == 256


def test_a_text_without_spaces_gives_no_giant_tokens() -> None:
    tokenizer = train_tokenizer("bpe", ["ab" * 100_000], vocab_size=1000)
    assert max(len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)) == MAX_TOKEN_BYTES
    assert tokenizer.decode(tokenizer.encode("ab" * 1000)) == "ab" * 1000


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        (0, 320),
        (50_000, 320),
        (464_970, 512),
        (1_115_394, 1024),
        (60_000_000, 8192),
        (10**9, 32768),
        (10**12, 32768),
    ],
)
def test_the_vocabulary_grows_with_the_root_of_the_text(size: int, tokens: int) -> None:
    assert choose_vocab_size(size) == tokens


@pytest.mark.parametrize(
    ("spec", "vocab_size", "words"),
    [
        ("bqe", None, "did you mean 'bpe'"),
        ("o200k", None, "did you mean 'o200k_base'"),
        ("", None, "no tokenizer ''"),
        ("bpe", 255, "needs at least 256 entries, one for each byte"),
        ("bpe", -1, "at least 256"),
        ("bpe", 1 << 30, "the largest"),
        ("char", 100, "its own vocabulary size"),
        ("gpt2", 100, "its own vocabulary size"),
    ],
)
def test_wrong_choices_are_usage_errors(spec: str, vocab_size: int | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_tokenizer(spec, vocab_size)
    with pytest.raises(UsageError, match=words):
        train_tokenizer(spec, ["text"], vocab_size=vocab_size)


def test_the_special_token_needs_an_entry_too() -> None:
    with pytest.raises(UsageError, match="at least 257"):
        train_tokenizer("bpe", ["text"], vocab_size=256, end_of_text=True)


@pytest.mark.parametrize("fault", [ConnectionError("no route"), ValueError("hash mismatch")])
def test_an_encoding_that_cannot_be_had_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception
) -> None:
    def offline(_: str) -> bytes:
        raise fault

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.load.read_file", offline)
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    with pytest.raises(ResourceError, match="'cl100k_base' is not in") as caught:
        train_tokenizer("cl100k_base", [])
    assert "TIKTOKEN_CACHE_DIR" in caught.value.hint


def test_a_fault_in_the_stream_comes_through() -> None:
    def broken() -> Iterator[str]:
        yield "some text"
        raise TextError("the file changed")

    for spec in ("char", "bpe"):
        with pytest.raises(TextError, match="the file changed"):
            train_tokenizer(spec, broken(), vocab_size=300 if spec == "bpe" else None)

"""Splitting tokens into what they were merged from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.tokens.bpe_dropout import BPEDropout
from mygpt_cli.tokens.tokenizer import BytePairTokenizer
from mygpt_cli.tokens.tokenizer_json import BytePairVocabulary
from mygpt_cli.tokens.tokenizer_training import train_tokenizer

TEXT = "the cat sat on the mat and the rat ran at the cat that sat there. " * 20


def tokenizer() -> tuple[BytePairTokenizer, BPEDropout]:
    learned = train_tokenizer("bpe", [TEXT], vocab_size=320)
    assert isinstance(learned, BytePairTokenizer)
    assert isinstance(learned.vocabulary, BytePairVocabulary)
    return learned, BPEDropout(learned.vocabulary.ranks, learned.vocab_size)


@given(st.floats(0, 1), st.integers(0, 1000), st.integers(1, 40))
def test_the_text_stays_the_same(p: float, seed: int, width: int) -> None:
    learned, splitter = tokenizer()
    ids = np.array(learned.encode(TEXT)[: 3 * width]).reshape(3, -1)
    split = splitter.split(ids, p, np.random.default_rng(seed))
    assert split.shape == ids.shape
    for row, cut in zip(ids, split, strict=True):
        assert learned.decode_bytes(row).startswith(learned.decode_bytes(cut))
    if p == 0:
        assert np.array_equal(split, ids)


def test_the_parts_are_those_of_the_merges() -> None:
    ranks = {b"a": 0, b"b": 1, b"c": 2, b"ab": 3, b"bc": 4, b"abc": 5, b"abcab": 6}
    splitter = BPEDropout(ranks, 7)
    always = splitter.split(np.array([[6, 6, 6, 6, 6, 6]]), 1.0, np.random.default_rng(0))
    # abcab = abc + ab; abc = ab + c; ab = a + b: three rounds leave single letters.
    assert always.tolist() == [[0, 1, 2, 0, 1, 0]]
    assert splitter.split(np.array([[4, 4]]), 1.0, np.random.default_rng(0)).tolist() == [[1, 2]]


def test_the_share_of_split_tokens_is_p() -> None:
    ranks = {b"a": 0, b"b": 1, b"ab": 2}
    ids = np.full((200, 200), 2)
    split = BPEDropout(ranks, 3).split(ids, 0.1, np.random.default_rng(1))
    # A split token takes two places: in a row as long, 1 / (1 + p) of the tokens begin.
    whole = (split == 2).mean()
    assert whole == pytest.approx(0.9 / 1.1, abs=0.01)

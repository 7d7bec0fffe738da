"""How a text is cut into tokens."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.inspection.tokens import Entry, cut
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.helpers.standins import TEXT

BYTE_PAIRS = train_tokenizer("bpe", [TEXT], vocab_size=280, end_of_text=True)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_the_tokens_are_the_text(text: str) -> None:
    view = cut(BYTE_PAIRS, BYTE_PAIRS.encode_array(text), top=3)
    assert b"".join(view.tokens) == text.encode()
    assert (view.characters, view.size) == (len(text), len(text.encode()))
    assert view.distinct == len(set(view.ids))
    assert sum(entry.count for entry in view.frequent) <= len(view.ids)


def test_the_entries_that_stand_out() -> None:
    ids = BYTE_PAIRS.encode_array("zzz yz")
    view = cut(BYTE_PAIRS, ids, top=2)
    assert view.frequent[0] == Entry(ord("z"), b"z", 4)
    lengths = sorted((len(BYTE_PAIRS.token_bytes(token)) for token in range(279)), reverse=True)
    assert [len(entry.token) for entry in view.longest] == lengths[:2]
    assert b"<|endoftext|>" not in [entry.token for entry in view.longest]
    assert view.tokens_per_character == len(ids) / 6


def test_without_a_text_and_with_characters() -> None:
    view = cut(train_tokenizer("char", ["cab"]), np.empty(0, np.uint32), top=5)
    assert (view.tokens_per_character, view.longest, view.frequent) == (0.0, (), ())

"""Text to ids and back, as Hugging Face's libraries do it; files from elsewhere; cutting."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mygpt_cli.base.errors import CheckpointError, TextError
from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.patterns import KNOWN, O200K_PATTERN
from mygpt_cli.tokens.tokenizer import (
    BytePairTokenizer,
    Tokenizer,
    UnknownCharacterError,
    pieces_of,
    safe_cut,
)
from mygpt_cli.tokens.tokenizer_json import BytePairVocabulary
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.helpers.standins import SAMPLES, learned
from tests.helpers.tokenizer_files import ANY_TEXT, PROSE, characters, save

RANKS = Path(__file__).parents[3] / "shared" / "data" / "tiktoken"
# Hugging Face takes special tokens out of ordinary text, and hypothesis finds their names in the source.
FEW_LETTERS = st.text(st.sampled_from("ab \n1!"), min_size=1, max_size=60)


def naive_encode(text: str, tokenizer: BytePairTokenizer) -> list[int]:
    """Merge the pair of the lowest rank, leftmost first, until none is left."""
    ranks = tokenizer.vocabulary.ranks  # type: ignore[union-attr]
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(tokenizer.pattern), "isolated")
    ids = []
    for piece, _ in split.pre_tokenize_str(text):
        parts = [bytes([byte]) for byte in piece.encode()]
        while True:
            pairs = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
            if not pairs:
                break
            _, i = min(pairs)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [ranks[part] for part in parts]
    return ids


# --- Hugging Face reads what we write -------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["gpt2", "nanochat"])
@pytest.mark.parametrize("end_of_text", [False, True])
@pytest.mark.parametrize("make", [characters, learned])
def test_auto_tokenizer_gives_the_same_ids(
    tmp_path: Path, make: Callable[..., Tokenizer], end_of_text: bool, model_type: str
) -> None:
    tokenizer = make(end_of_text=end_of_text)
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path, model_type))
    assert len(theirs) == tokenizer.vocab_size
    for text in SAMPLES:
        ids = tokenizer.encode(text)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == tokenizer.decode(ids) == text
    assert theirs.eos_token_id == theirs.bos_token_id == tokenizer.end_of_text
    if end_of_text:
        assert tokenizer.end_of_text == tokenizer.vocab_size - 1
        assert theirs("a<|endoftext|>")["input_ids"] == [*tokenizer.encode("a"), tokenizer.end_of_text]


@pytest.mark.parametrize("pattern", sorted(KNOWN))
def test_patterns_split_alike_in_both_libraries(pattern: str) -> None:
    ranks = learned(2000).vocabulary.ranks  # type: ignore[union-attr]
    tokenizer = BytePairTokenizer(BytePairVocabulary(ranks, pattern, {}))
    theirs = tokenizers.Tokenizer.from_str(tokenizer.to_json())

    @settings(max_examples=300)
    @given(ANY_TEXT | PROSE)
    def check(text: str) -> None:
        assert theirs.encode(text).ids == tokenizer.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text

    check()


@pytest.mark.parametrize("members", [r"\p{L}", r"\p{N}", r"\s"])
def test_both_libraries_class_every_character_alike(members: str) -> None:
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    single_bytes = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("test", pat_str=members, mergeable_ranks=single_bytes, special_tokens={})
    # tiktoken leaves out what the pattern does not match; this pre-tokenizer what it does.
    matched = encoding.decode(encoding.encode_ordinary(every))
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(members), "removed")
    unmatched = "".join(piece for piece, _ in split.pre_tokenize_str(every))
    assert len(matched) + len(unmatched) == len(every)
    assert not set(matched) & set(unmatched)


@settings(max_examples=200)
@given(st.lists(FEW_LETTERS, min_size=1, max_size=5), FEW_LETTERS, st.integers(257, 330))
def test_learned_merges_mean_the_same_to_three_implementations(
    texts: list[str], text: str, size: int
) -> None:
    tokenizer = train_tokenizer("bpe", texts, vocab_size=size)
    assert isinstance(tokenizer, BytePairTokenizer)
    assert 256 <= tokenizer.vocab_size <= size
    ids = tokenizer.encode(text)
    assert ids == naive_encode(text, tokenizer)
    assert ids == tokenizers.Tokenizer.from_str(tokenizer.to_json()).encode(text).ids


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base", "o200k_harmony"])
def test_encodings_with_gaps_between_their_ids(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    ranks = dict(learned(2000).vocabulary.ranks)  # type: ignore[union-attr]
    monkeypatch.setattr("tiktoken_ext.openai_public.load_tiktoken_bpe", lambda *_, **__: ranks)
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    tokenizer = train_tokenizer(name, [])
    assert tokenizer.kind == name
    assert tokenizer.token_bytes(len(ranks)) == b""
    assert tokenizer.end_of_text is not None
    assert tokenizer.token_bytes(tokenizer.end_of_text) == b"<|endoftext|>"
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path))
    assert theirs.eos_token_id == tokenizer.end_of_text
    reference = tiktoken.get_encoding(name)
    assert (reference._pat_str == O200K_PATTERN) == name.startswith("o200k")
    assert tokenizer.vocab_size == reference.n_vocab
    again = load_tokenizer(tmp_path)

    @settings(max_examples=100)
    @given(ANY_TEXT | PROSE)
    def check(text: str) -> None:
        ids = tokenizer.encode(text)
        assert ids == reference.encode_ordinary(text) == again.encode(text)
        assert ids == theirs(text)["input_ids"]

    check()
    for text in SAMPLES:
        assert tokenizer.encode(text) == theirs(text)["input_ids"] == reference.encode_ordinary(text)


@pytest.mark.skipif(
    not RANKS.is_dir(), reason="needs a tiktoken cache with r50k_base in shared/data/tiktoken"
)
def test_gpt2_has_its_published_ids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(RANKS))
    gpt2 = train_tokenizer("gpt2", [])
    assert (gpt2.kind, gpt2.vocab_size, gpt2.end_of_text) == ("gpt2", 50257, 50256)
    # From the docstrings of tiktoken and transformers.
    assert gpt2.encode("hello world") == [31373, 995]
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode(" Hello world") == [18435, 995]
    assert gpt2.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]
    reference = tiktoken.get_encoding("r50k_base")
    theirs = AutoTokenizer.from_pretrained(save(gpt2, tmp_path, "gpt2"))
    again = load_tokenizer(tmp_path)
    for text in SAMPLES:
        assert gpt2.encode(text) == reference.encode_ordinary(text) == theirs(text)["input_ids"]
        assert again.encode(text) == gpt2.encode(text)


# --- Characters -------------------------------------------------------------------------------------------


def test_characters_are_sorted_and_round_trip() -> None:
    tokenizer = train_tokenizer("char", ["banana\n", "Ġ😀"])
    assert [tokenizer.token_bytes(i).decode() for i in range(tokenizer.vocab_size)] == sorted("ban\nĠ😀")
    assert tokenizer.encode("nab") == [3, 1, 2]
    assert tokenizer.decode([3, 1, 2]) == "nab"
    assert (tokenizer.kind, tokenizer.end_of_text) == ("char", None)
    assert tokenizer.encode_array("nab").dtype == "uint32"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abcé", r"'é' \(U\+00E9\), character 4 of"),
        ("\x1bab", r"U\+001B, character 1 of"),
        ("ab\U0010ffff", r"U\+10FFFF, character 3 of"),
        ("a\ud800", r"U\+D800, character 2 of"),
    ],
)
def test_an_unknown_character_is_shown_with_its_place(text: str, words: str) -> None:
    with pytest.raises(UnknownCharacterError, match=words) as caught:
        train_tokenizer("char", ["abc"]).encode(text)
    assert "bpe" in caught.value.hint
    assert caught.value.exit_code == 4


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_characters_round_trip_any_text(text: str) -> None:
    tokenizer = train_tokenizer("char", [text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text))


# --- Byte pairs -------------------------------------------------------------------------------------------


@given(ANY_TEXT)
def test_byte_pairs_round_trip_any_text(text: str) -> None:
    tokenizer = TOKENIZER
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == text.encode()


TOKENIZER = learned(300)


def test_special_text_is_plain_text_and_the_special_token_is_last() -> None:
    tokenizer = learned(300, end_of_text=True)
    assert tokenizer.vocab_size == 300
    assert tokenizer.end_of_text == 299
    assert 299 not in tokenizer.encode("<|endoftext|>")
    assert tokenizer.decode([299]) == "<|endoftext|>"
    assert learned(300).end_of_text is None


@pytest.mark.parametrize("text", [" ", "\n", "a", "\t"])
def test_long_runs_are_encoded(text: str) -> None:
    run = text * 1_100_000
    ids = TOKENIZER.encode_array(run)
    assert TOKENIZER.decode(ids.tolist()) == run
    assert train_tokenizer("bpe", [run], vocab_size=300).vocab_size > 256


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(TextError, match=r"U\+D83D"):
        TOKENIZER.encode("a\ud83d")


def test_split_characters_decode_to_exact_bytes() -> None:
    ids = train_tokenizer("bpe", ["x"], vocab_size=256).encode("😀")
    tokenizer = train_tokenizer("bpe", ["x"], vocab_size=256)
    assert tokenizer.decode_bytes(ids[:2]) == "😀".encode()[:2]
    assert tokenizer.decode(ids[:2]) == "\ufffd"
    assert tokenizer.decode(ids) == "😀"


@pytest.mark.parametrize("token", [-1, 300, 10**12])
def test_ids_beyond_the_vocabulary_are_refused(token: int) -> None:
    with pytest.raises(TextError, match="ids go from 0 to 299"):
        TOKENIZER.decode([1, token])


# --- Cutting ----------------------------------------------------------------------------------------------

WORDS = st.lists(
    st.sampled_from(
        ["word", " ", "\n", "it's", "12345", "!?", "中文。", "é", "\t", "  ", "\r\n", "😀", "\u0301"]
    ),
    max_size=60,
).map("".join)


@pytest.mark.parametrize("pattern", sorted(KNOWN))
def test_cuts_leave_the_tokens_as_they_are(pattern: str) -> None:
    ranks = learned(2000).vocabulary.ranks  # type: ignore[union-attr]
    tokenizer = BytePairTokenizer(BytePairVocabulary(ranks, pattern, {}))

    @settings(max_examples=400)
    @given(WORDS | PROSE, st.integers(0, 250))
    def check(text: str, limit: int) -> None:
        cut = safe_cut(text, 0, limit)
        # A cut at the limit may also be the emergency, which changes tokens.
        if cut < limit:
            assert tokenizer.encode(text[:cut]) + tokenizer.encode(text[cut:]) == tokenizer.encode(text)

    check()


@given(WORDS | FEW_LETTERS | PROSE, st.integers(0, 60), st.integers(0, 200))
def test_the_cut_is_the_last_safe_place(text: str, start: int, room: int) -> None:
    limit = start + room
    if limit >= len(text):
        expected = len(text)
    else:
        safe = [
            place
            for place in range(start + 1, limit + 1)
            if (text[place] == " " and not text[place - 1].isspace())
            or (text[place] in "\r\n" and text[place - 1].isalnum())
        ]
        expected = max(safe, default=limit)
    assert safe_cut(text, start, limit) == expected


@given(WORDS, st.integers(1, 50))
def test_pieces_are_short_and_make_up_the_text(text: str, size: int) -> None:
    pieces = list(pieces_of(text, size))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces)


@pytest.mark.parametrize("pattern", ["", "a*", "(?=b)", "b|(?=a)"])
def test_a_pattern_that_matches_nothing_is_refused(pattern: str) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    tokenizer = BytePairTokenizer(BytePairVocabulary(ranks, pattern, {}))
    with pytest.raises(CheckpointError, match="splitting pattern"):
        tokenizer.encode("ab")

"""Making a tokenizer: from the characters of a text, from byte pairs learned from it, or a named encoding."""

import math
from collections.abc import Iterable

import numpy as np
import rustbpe
import tiktoken

from mygpt_cli.base.errors import ResourceError, TextError, UsageError, did_you_mean
from mygpt_cli.tokens.patterns import GPT2_PATTERN, GPT4_PATTERN, SPLIT_PATTERN
from mygpt_cli.tokens.tokenizer import BytePairTokenizer, CharTokenizer, Tokenizer, code_points, pieces_of
from mygpt_cli.tokens.tokenizer_json import END_OF_TEXT, BytePairVocabulary, CharacterVocabulary

PORTABLE_PATTERNS = {
    "gpt2": GPT2_PATTERN,
    "r50k_base": GPT2_PATTERN,
    "p50k_base": GPT2_PATTERN,
    "p50k_edit": GPT2_PATTERN,
    "cl100k_base": GPT4_PATTERN,
}
SAME_RANKS = {"gpt2": "r50k_base"}  # one file in place of two
# A text without spaces would otherwise fill the vocabulary with tokens as long as itself.
MAX_TOKEN_BYTES = 256
SMALLEST_CHOICE = 320
LARGEST_CHOICE = 32768
LARGEST_LEARNED = 131_072  # the tokenizer.json of more would be too large to be read back


def check_tokenizer(spec: str, vocab_size: int | None = None) -> None:
    """Raise UsageError unless `spec` is a kind of tokenizer and `vocab_size` is one it can have."""
    names = ("char", "bpe", *tiktoken.list_encoding_names())
    if spec not in names:
        raise UsageError(
            f"there is no tokenizer '{spec}'{did_you_mean(spec, names)}", f"use one of: {', '.join(names)}"
        )
    if vocab_size is None:
        return
    if spec != "bpe":
        raise UsageError(
            f"the tokenizer '{spec}' has its own vocabulary size",
            "leave --vocab-size out or use --tokenizer bpe",
        )
    _check_vocab_size(vocab_size, 256)


def train_tokenizer(
    spec: str,
    chunks: Iterable[str],
    *,
    vocab_size: int | None = None,
    end_of_text: bool = False,
    pattern: str = SPLIT_PATTERN,
) -> Tokenizer:
    """Make the tokenizer `spec`: "char", "bpe" or the name of a tiktoken encoding.

    "char" takes the characters of `chunks`, "bpe" learns merges from them until there are `vocab_size`
    tokens or nothing is left to merge; an encoding does not read them. With `end_of_text` a learned
    vocabulary gets <|endoftext|> as its last token, counted in `vocab_size`. `pattern`, one of those in
    `patterns`, splits the text that byte pairs are learned from.

    Raises UsageError for an unknown name or a size that is too small, ResourceError for an encoding that
    is not at hand and cannot be downloaded.
    """
    check_tokenizer(spec, vocab_size)
    if spec == "char":
        return _learn_characters(chunks, end_of_text)
    if spec == "bpe":
        return _learn_byte_pairs(chunks, vocab_size or SMALLEST_CHOICE, end_of_text, pattern)
    return _named(spec)


def choose_vocab_size(size: int) -> int:
    """Choose a vocabulary size for `size` bytes of text: the power of two nearest to its square root.

    A megabyte gets 1024 tokens. Never below 320, which leaves some merges, nor above 32768.
    """
    nearest = 1 << round(math.log2(max(1, size)) / 2)
    return min(max(nearest, SMALLEST_CHOICE), LARGEST_CHOICE)


def _learn_characters(chunks: Iterable[str], end_of_text: bool) -> CharTokenizer:
    seen = np.zeros(0x110000, dtype=bool)
    for chunk in chunks:
        seen[code_points(chunk)] = True
    characters = "".join(map(chr, np.flatnonzero(seen)))
    if not characters:
        raise TextError("there is no text to take characters from")
    return CharTokenizer(
        CharacterVocabulary(characters, {END_OF_TEXT: len(characters)} if end_of_text else {})
    )


def _learn_byte_pairs(
    chunks: Iterable[str], vocab_size: int, end_of_text: bool, pattern: str
) -> BytePairTokenizer:
    _check_vocab_size(vocab_size, 256 + end_of_text)
    learner = rustbpe.Tokenizer()
    # The learner gathers `buffer_size` texts before it counts them, all processors at once.
    learner.train_from_iterator(
        (piece for chunk in chunks for piece in pieces_of(chunk)),
        vocab_size - end_of_text,
        buffer_size=64,
        pattern=pattern,
    )
    learned = sorted((rank, bytes(token)) for token, rank in learner.get_mergeable_ranks())
    # What a long token is part of is longer still, so leaving those out keeps every merge whole.
    tokens = dict.fromkeys(token for _, token in learned if len(token) <= MAX_TOKEN_BYTES)
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return BytePairTokenizer(
        BytePairVocabulary(ranks, pattern, {END_OF_TEXT: len(ranks)} if end_of_text else {})
    )


def _named(name: str) -> BytePairTokenizer:
    source = SAME_RANKS.get(name, name)
    try:
        encoding = tiktoken.get_encoding(source)
    except (OSError, ValueError) as fault:
        raise ResourceError(
            f"the encoding '{name}' is not in tiktoken's cache and could not be downloaded",
            "go online once, set TIKTOKEN_CACHE_DIR to a folder that holds it, or use --tokenizer bpe",
        ) from fault
    pattern = PORTABLE_PATTERNS.get(name, encoding._pat_str)
    # o200k_harmony has two names for one id, and a tokenizer.json cannot; the first stays.
    names = {token: text for text, token in reversed(encoding._special_tokens.items())}
    specials = {text: token for token, text in sorted(names.items())}
    return BytePairTokenizer(BytePairVocabulary(encoding._mergeable_ranks, pattern, specials), name)


def _check_vocab_size(vocab_size: int, smallest: int) -> None:
    if vocab_size < smallest:
        end = " and one for the end of a document" if smallest > 256 else ""
        raise UsageError(
            f"--vocab-size is {vocab_size}; a byte-pair vocabulary needs at least {smallest} entries,"
            f" one for each byte{end}",
            "leave --vocab-size out to have it chosen from the amount of text",
        )
    if vocab_size > LARGEST_LEARNED:
        raise UsageError(
            f"--vocab-size is {vocab_size}; the largest is {LARGEST_LEARNED}", "a few thousand is usual"
        )

"""How a text is cut into tokens, and what a vocabulary holds."""

import codecs
from collections import Counter
from dataclasses import dataclass

import numpy as np

from mygpt_cli.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Entry:
    """An entry of the vocabulary; `count` says how often the text has it."""

    id: int
    token: bytes
    count: int


@dataclass(frozen=True)
class Cut:
    """A text of `characters` as the tokens `ids`, and what the tokenizer's vocabulary of `vocab_size` holds.

    `longest` are the entries of most bytes, none for characters; `frequent` those that the text has most
    often. `distinct` counts the entries that it has at all. The first tokens, as many as `prefix` says, are
    not of the text but put in front of it. The text has this `size` in bytes of UTF-8.
    """

    ids: tuple[int, ...]
    tokens: tuple[bytes, ...]
    characters: int
    kind: str
    vocab_size: int
    distinct: int
    longest: tuple[Entry, ...]
    frequent: tuple[Entry, ...]
    prefix: int = 0
    size: int = 0

    @property
    def tokens_per_character(self) -> float:
        """How many tokens a character takes; 0 without a text."""
        return (len(self.ids) - self.prefix) / self.characters if self.characters else 0.0


def cut(tokenizer: Tokenizer, ids: np.ndarray, *, top: int) -> Cut:
    """Describe some tokens and list up to `top` of the longest and of the most frequent entries."""
    sequence = ids.tolist()
    tokens = tuple(map(tokenizer.token_bytes, sequence))
    counts = Counter(sequence)

    def entry(token: int) -> Entry:
        return Entry(token, tokenizer.token_bytes(token), counts[token])

    specials = set(tokenizer.vocabulary.specials.values())
    size = min(tokenizer.own_size, tokenizer.vocab_size)
    learned = [token for token in range(size) if token not in specials]
    longest = sorted(learned, key=lambda token: (-len(tokenizer.token_bytes(token)), token))
    frequent = sorted(counts, key=lambda token: (-counts[token], token))
    prefix = len(tokenizer.prefix)
    text = tokenizer.text_bytes(sequence[prefix:])
    return Cut(
        ids=tuple(sequence),
        tokens=tokens,
        characters=len(codecs.getincrementaldecoder("utf-8")("replace").decode(text)),
        kind=tokenizer.kind,
        vocab_size=tokenizer.own_size,
        distinct=len(counts),
        longest=() if tokenizer.kind == "char" else tuple(map(entry, longest[:top])),
        frequent=tuple(map(entry, frequent[:top])),
        prefix=prefix,
        size=len(text),
    )

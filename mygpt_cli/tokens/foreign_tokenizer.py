"""Tokenizers that Hugging Face's `tokenizers` runs, for the folders whose files only it reads."""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mygpt_cli.base.errors import CheckpointError, ResourceError
from mygpt_cli.tokens.tokenizer import (
    REACH,
    ModelIds,
    Tokenizer,
    check_text,
    is_panic,
    last_place,
    next_place,
    safe_cut,
)
from mygpt_cli.tokens.tokenizer_json import ForeignVocabulary

if TYPE_CHECKING:
    import tokenizers

# Characters more than a piece that are encoded at once where it is not known how to cut a text. A place that
# is cut all the same may change the tokens around it.
WHOLE = 1 << 16
# An unknown splitting pattern must be quick with texts of growing length, and not take sixteen times as long
# for four times the length: so none keeps the machine busy for hours, and few for a minute a piece.
PROBES = ("a", " ", "1", "aA 1.\n'é中\u0301")
LENGTHS = (64, 256, 1024, 4096)
SECONDS, NOTHING, GROWTH = 0.1, 0.02, 10


class ForeignTokenizer(Tokenizer):
    """Byte pairs as `tokenizers` merges them; bytes of tokens, cutting and special tokens are our own.

    Tokens of single bytes that together are no UTF-8 stay bytes, where the library loses all that follow one
    another.

    Raises CheckpointError for what the library refuses, and for splitting patterns that take too long.
    """

    def __init__(self, vocabulary: ForeignVocabulary, kind: str = "bpe", ids: ModelIds | None = None) -> None:
        with _without_stderr():
            outer = _build(vocabulary.text)
        names = {one.id: outer.id_to_token(one.id) or "" for one in vocabulary.added.values()}
        if vocabulary.spaces:  # an added token that is looked for in normalized text is normalized itself
            names = {token: name.replace("▁", " ") for token, name in names.items()}
        added = {token: name.encode() for token, name in names.items()}
        super().__init__(kind, vocabulary, {**vocabulary.tokens, **added}, ids)
        self.ranks = vocabulary.ranks
        self.reach = WHOLE if vocabulary.cut == "nowhere" else REACH
        self._strips, self._cut = vocabulary.strips, vocabulary.cut
        self._outer = outer
        self._inner_text = None if vocabulary.inner == vocabulary.text else vocabulary.inner
        self._check()

    @cached_property
    def _inner(self) -> "tokenizers.Tokenizer":
        return self._outer if self._inner_text is None else _build(self._inner_text)

    def _check(self) -> None:
        """Raise CheckpointError where the library has other ids than the file, or takes too long."""
        further = {**self.vocabulary.specials, **self.added.ids}
        found = self._outer.get_vocab(with_added_tokens=True)
        if any(found.get(text) != token for text, token in further.items()):
            raise CheckpointError(
                "the tokenizer's added tokens have other ids than those that its file gives them",
                "the file is damaged; copy the checkpoint again",
            )
        if self._cut == "nowhere" and self._outer.pre_tokenizer is not None:
            with _without_stderr():
                for probe in PROBES:
                    self._time(probe)

    def _time(self, probe: str) -> None:
        """Raise CheckpointError when splitting takes too long, or with the square of the length of a text."""
        before = SECONDS
        for length in LENGTHS:
            text = (probe * length)[:length]
            seconds = self._seconds(text)
            if NOTHING < seconds < 10 * SECONDS:  # it may have been the first time
                seconds = min(seconds, self._seconds(text), self._seconds(text))
            if seconds > SECONDS or seconds > max(NOTHING, GROWTH * before):
                raise CheckpointError(
                    "the tokenizer's splitting pattern takes too long",
                    "its files may come from someone who means harm",
                )
            before = seconds

    def _seconds(self, text: str) -> float:
        begin = time.thread_time()  # whatever else the machine does
        _call(self._outer.pre_tokenizer.pre_tokenize_str, text)
        return time.thread_time() - begin

    def encode_array(self, text: str, *, begins: bool = True) -> np.ndarray:
        """Return the token ids of a text as a uint32 array; see the base class."""
        check_text(text)
        found, start = [np.empty(0, np.uint32)], 0
        while start < len(text):
            stop = self.cut(text, start, start + self.piece)
            run = self._outer if begins and not start else self._inner
            ids = _call(run.encode, text[start:stop], add_special_tokens=False).ids
            found.append(np.array(ids, np.uint32))
            start = stop
        ids = np.concatenate(found)
        if ids.size and ids.max() >= self.vocab_size:
            missing = {token: text for text, token in self.missing.items()}
            raise self._missing_token(missing[int(ids[ids >= self.vocab_size][0])])
        return ids

    def _encode(self, text: str) -> np.ndarray:
        return self.encode_array(text)

    def cut(self, text: str, start: int, limit: int) -> int:
        """Return a place to cut; see the base class."""
        furthest = limit + self.reach
        if self._cut == "words":
            return safe_cut(text, start, limit, furthest)
        known = self._cut == "spaces"
        limit = limit if known else furthest
        if limit >= len(text):
            return len(text)
        place = last_place(text, " ", start, limit, _after_something)
        if place <= start and known:
            place = next_place(text, " ", limit, furthest, _after_something)
            place = len(text) if place < 0 and furthest >= len(text) else place
        return place if place > start else limit

    def text_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of a text from its beginning; see the base class."""
        ids = list(ids)
        if self._strips == "nothing" or not ids:
            return self.decode_bytes(ids)
        first, rest = self.token_bytes(ids[0]), self.decode_bytes(ids[1:])
        if self._strips == "spaces of a token":
            return first.replace(b" ", b"") + rest
        return (first + rest).removeprefix(b" ")


def _after_something(before: str) -> bool:
    return not before.isspace() and before != "▁"


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Let nothing reach the standard error, where the library writes of each panic where in it that was."""
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # it is closed
        yield
        return
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _build(text: str) -> "tokenizers.Tokenizer":
    try:
        import tokenizers
    except ImportError:
        raise ResourceError(
            "this model's tokenizer needs the package 'tokenizers'", "install it: pip install tokenizers"
        ) from None
    built: tokenizers.Tokenizer = _call(tokenizers.Tokenizer.from_str, text)
    built.encode_special_tokens = True  # special tokens in a text are ordinary text
    return built


def _call(function: Any, *arguments: Any, **more: Any) -> Any:
    """Call the library; CheckpointError for whatever it raises, a panic too."""
    try:
        return function(*arguments, **more)
    except BaseException as fault:
        if not isinstance(fault, Exception) and not is_panic(fault):
            raise
        raise CheckpointError(f"the tokenizer's file is unusable: {fault!s:.300}") from fault

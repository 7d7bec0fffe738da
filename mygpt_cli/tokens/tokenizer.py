"""Text to token ids and back, by characters or by byte pairs; `tokenizer_training` makes tokenizers."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tiktoken

from mygpt_cli.base.errors import CheckpointError, TextError
from mygpt_cli.tokens.added_tokens import AddedTokens
from mygpt_cli.tokens.patterns import SPLIT_PATTERN
from mygpt_cli.tokens.tokenizer_json import (
    END_OF_TEXT,
    BytePairVocabulary,
    CharacterVocabulary,
    ForeignVocabulary,
    Vocabulary,
    spelled_bytes,
    write_vocabulary,
)

# The regular expression engines give up on runs of white space from about a million characters on.
PIECE = 1 << 16
REACH = 1 << 18  # characters after which a text is cut though that may change its tokens


class UnknownCharacterError(TextError):
    """A character, the `place`-th of the text counted from one, that is not among the `known` ones."""

    def __init__(self, character: str, place: int, known: int) -> None:
        super().__init__(
            f"the tokenizer does not know {_visible(character)}, character {place} of the text",
            f"it knows the {known} characters of its training text and no others;"
            " a model trained with `--tokenizer bpe` takes any text",
        )
        self.character = character
        self.place = place
        self.known = known


@dataclass(frozen=True)
class ModelIds:
    """What a model makes of token ids: how many it chooses among, and which begin and end a text."""

    vocab_size: int
    begin: int | None
    ends: tuple[int, ...]


class Tokenizer(ABC):
    """Token ids are 0 up to `vocab_size` - 1, special tokens and padding of the model's vocabulary included.

    `kind` is "char", "bpe" or the name of a tiktoken encoding. `own_size` counts the ids that the tokenizer
    itself has, and `missing` are those of its tokens that its model does not have. `begin` and `ends` are the
    ids that begin and end a text; `end_of_text` is the one to put between texts, if there is one. Text that
    looks like a special token is encoded as plain text.

    `prefix` and `suffix` are the ids that the tokenizer's own template puts before and after a text, as
    transformers does. Encoding leaves them out: the prefix goes where a text begins, before a prompt, a text
    to be scored and each document to learn from, and the suffix where a document ends.

    `ranks` maps the bytes of tokens to their ids, in the order of the merges that made them; it is empty
    where tokens are made otherwise. A long text is cut into pieces of about `piece` characters, or as many as
    `reach` more where it cannot be cut before; see `cut`. `carried` are files that go along with a model that
    is trained further, as they are.

    CheckpointError for a model that lacks more than tokens that were added.
    """

    def __init__(
        self, kind: str, vocabulary: Vocabulary, tokens: Mapping[int, bytes], ids: ModelIds | None
    ) -> None:
        self.kind = kind
        self.vocabulary = vocabulary
        self.added = AddedTokens(vocabulary.added)
        self.ranks: Mapping[bytes, int] = {}
        self.carried: Mapping[str, bytes] = {}
        self.piece, self.reach = PIECE, 0
        further = {**vocabulary.specials, **self.added.ids}
        tokens = {**{token: text.encode() for text, token in further.items()}, **tokens}
        self.own_size = max(tokens) + 1
        end = vocabulary.specials.get(END_OF_TEXT)
        ids = ids or ModelIds(self.own_size, end, () if end is None else (end,))
        self.vocab_size, self.begin, self.ends = ids.vocab_size, ids.begin, ids.ends
        self.missing = {text: token for text, token in further.items() if token >= ids.vocab_size}
        if sum(token >= ids.vocab_size for token in tokens) > len(self.missing):
            raise CheckpointError(
                f"the tokenizer has {self.own_size} tokens, the model only {ids.vocab_size}",
                "the tokenizer's files and config.json must come from the same model",
            )
        self.end_of_text = next(iter(self.ends), None if end is None or end >= self.vocab_size else end)
        template = vocabulary.template
        self.prefix = tuple(token for _, token in template.before)
        self.suffix = tuple(token for _, token in template.after)
        for text, token in (*template.before, *template.after):
            if token >= self.vocab_size:
                raise CheckpointError(
                    f"the tokenizer puts '{text}' around every text, which is no token of the model",
                    "the tokenizer's files and config.json must come from the same model",
                )
        # Not of all ids: encodings leave gaps, vocabularies are padded, and a model may still predict those.
        self._bytes = tokens

    def encode_array(self, text: str, *, begins: bool = True) -> np.ndarray:
        """Return the token ids of a text as a uint32 array, without the prefix and the suffix.

        A text that does not begin here goes on after a cut: some tokenizers put a space before the others.
        Raises TextError for a character that cannot be encoded, and for a token that the model does not have.
        """
        if not self.added.ids:
            return self._encode(text)
        found, place = [np.empty(0, np.uint32)], 0
        for stretch in self.added.split(text):
            try:
                token = self.added.ids.get(stretch)
                found.append(self._encode(stretch) if token is None else self._only(stretch, token))
            except UnknownCharacterError as fault:
                raise UnknownCharacterError(fault.character, fault.place + place, fault.known) from None
            place += len(stretch)
        return np.concatenate(found)

    def _only(self, text: str, token: int) -> np.ndarray:
        if token >= self.vocab_size:
            raise self._missing_token(text)
        return np.array([token], np.uint32)

    def _missing_token(self, text: str) -> TextError:
        return TextError(
            f"the text has '{text}', a token that the model does not have",
            f"the model's tokens are 0 to {self.vocab_size - 1}:"
            " `resize_token_embeddings` in transformers gives it more",
        )

    def check_prompt(self, text: str) -> None:
        """Raise TextError for a prompt with a token, though a special one, that the model does not have."""
        for missing in self.missing:
            if missing in text:
                raise self._missing_token(missing)

    @abstractmethod
    def _encode(self, text: str) -> np.ndarray:
        """Encode a text without regard to added tokens."""

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """Return the token ids of a text as `encode_array` does, as a list."""
        ids: list[int] = self.encode_array(text, begins=begins).tolist()
        return ids

    def cut(self, text: str, start: int, limit: int) -> int:
        """Return a place to cut a text after `start`: the tokens of the parts are those of the whole.

        It is the last one up to `limit`, or else the first one after it, unless that is out of reach; then it
        is `limit`, and tokens may change. Text more than `reach` and the longest added token beyond `limit`
        does not matter.
        """
        return self.added.whole(text, start, safe_cut(text, start, limit, limit + self.reach))

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that one token stands for, which need not be whole characters.

        An id that the tokenizer does not use has none; TextError for an id beyond the vocabulary.
        """
        if not 0 <= token < self.vocab_size:
            raise TextError(f"there is no token {token}; ids go from 0 to {self.vocab_size - 1}")
        return self._bytes.get(token, b"")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the exact bytes of some tokens; raises TextError for an id beyond the vocabulary."""
        return b"".join(map(self.token_bytes, ids))

    def text_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of tokens that begin a text, without a space that encoding has put in front."""
        return self.decode_bytes(ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that begins with some tokens, with U+FFFD in place of broken characters."""
        return self.text_bytes(ids).decode(errors="replace")

    def files(self) -> dict[str, bytes]:
        """Return the files of a checkpoint with this tokenizer: those it came with, or else new ones."""
        if self.carried:
            return dict(self.carried)
        return {
            "tokenizer.json": self.to_json().encode(),
            "tokenizer_config.json": self.to_config_json().encode(),
        }

    def to_json(self) -> str:
        """Return the text of a tokenizer.json that gives the same ids in Hugging Face's libraries."""
        return self._json

    @cached_property
    def _json(self) -> str:
        # A large vocabulary takes half a second.
        vocabulary = self.vocabulary
        return vocabulary.text if isinstance(vocabulary, ForeignVocabulary) else write_vocabulary(vocabulary)

    def to_config_json(self) -> str:
        """Return the text of a tokenizer_config.json that has AutoTokenizer use tokenizer.json as it is."""
        config: dict[str, object] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
        }
        texts = {token: text for text, token in self.vocabulary.specials.items()}
        for name, token in (("bos_token", self.begin), ("eos_token", self.end_of_text)):
            if token in texts:
                config[name] = texts[token]
        return json.dumps(config, indent=2)


class CharTokenizer(Tokenizer):
    """One token for each character of the text it was made for."""

    def __init__(self, vocabulary: CharacterVocabulary, ids: ModelIds | None = None) -> None:
        characters = vocabulary.characters
        super().__init__("char", vocabulary, {i: text.encode() for i, text in enumerate(characters)}, ids)
        self.characters = characters
        codes = code_points(characters)
        # One place more than the largest code point, where all larger ones are looked up and not found.
        self._ids = np.full(int(codes.max()) + 2, -1, dtype=np.int64)
        self._ids[codes] = np.arange(len(codes))

    def _encode(self, text: str) -> np.ndarray:
        ids = self._ids[np.minimum(code_points(text), len(self._ids) - 1)]
        unknown = np.flatnonzero(ids < 0)
        if unknown.size:
            place = int(unknown[0])
            raise UnknownCharacterError(text[place], place + 1, len(self.characters))
        found: np.ndarray = ids.astype(np.uint32)
        return found


class BytePairTokenizer(Tokenizer):
    """Byte-level byte-pair encoding, run by tiktoken; any text can be encoded."""

    def __init__(
        self, vocabulary: BytePairVocabulary, kind: str = "bpe", ids: ModelIds | None = None
    ) -> None:
        tokens = {rank: token for token, rank in vocabulary.ranks.items()}
        tokens |= {token: spelled_bytes(text) for text, token in vocabulary.unmerged.items()}
        super().__init__(kind, vocabulary, tokens, ids)
        self.pattern, self.ranks = vocabulary.pattern, vocabulary.ranks
        # mygpt's own texts are tokenized as they always were; others as Hugging Face's library does it.
        self.reach = 0 if self.pattern == SPLIT_PATTERN else REACH
        self._lengths = np.array([len(tokens.get(token, b"")) for token in range(max(tokens) + 1)])
        try:
            # Never allowed, so never found; but without any special token tiktoken's search for them, which
            # its way without Python lists cannot leave out, stops at every character.
            self._encoding = tiktoken.Encoding(
                name=kind,
                pat_str=self.pattern,
                mergeable_ranks=dict(vocabulary.ranks),
                special_tokens={END_OF_TEXT: max(self.own_size, self.vocab_size)},
            )
        except ValueError as fault:
            raise CheckpointError(f"the tokenizer's splitting pattern is unusable: {fault}") from fault

    def _encode(self, text: str) -> np.ndarray:
        pieces = [self._encode_piece(piece) for piece in pieces_of(text, self.piece, self.reach)]
        return np.concatenate(pieces) if pieces else np.empty(0, np.uint32)

    def _encode_piece(self, text: str) -> np.ndarray:
        size = check_text(text)
        try:
            ids = self._encoding.encode_to_numpy(text, disallowed_special=())
        except BaseException as fault:
            if not isinstance(fault, ValueError) and not is_panic(fault):
                raise
            raise CheckpointError(f"the tokenizer's splitting pattern failed: {fault}") from fault
        if self._lengths[ids].sum() != size:
            raise CheckpointError("the tokenizer's splitting pattern loses text; mygpt does not support that")
        return ids


def is_panic(fault: BaseException) -> bool:
    """Whether an exception is a panic of a library written in Rust, which has no class to import."""
    return type(fault).__name__ == "PanicException"


def check_text(text: str) -> int:
    """Return the length of a text in UTF-8; TextError for half a surrogate pair, which cannot be encoded."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as fault:
        raise TextError(
            f"the text has {_visible(text[fault.start])}, half of a surrogate pair and no character",
            "the text was not UTF-8 to begin with; convert it",
        ) from None


def pieces_of(text: str, size: int = PIECE, reach: int = 0) -> Iterator[str]:
    """Cut a text into pieces of at most `size` characters whose tokens are the tokens of the whole.

    They are longer, by `reach` at most, where the text cannot be cut before.
    """
    start = 0
    while start < len(text):
        stop = safe_cut(text, start, start + size, start + size + reach)
        yield text[start:stop]
        start = stop


def safe_cut(text: str, start: int, limit: int, furthest: int = 0) -> int:
    """Return the last place after `start` and up to `limit` where a cut leaves the tokens as they are.

    That is in front of a space that follows something else than white space, or of a line end that
    follows a letter or digit: every supported pattern starts a new piece there, whatever came before.
    Where a stretch has no such place, it is the first one up to `furthest`, and else the cut falls on
    `limit`. The end of the text is always one.
    """
    if limit >= len(text):
        return len(text)
    place = max(last_place(text, mark, start, limit, fits) for mark, fits in _PLACES)
    if place > start:
        return place
    if limit >= furthest:
        return limit
    places = [next_place(text, mark, limit, furthest, fits) for mark, fits in _PLACES]
    after = [place for place in places if place >= 0] + [len(text)] * (furthest >= len(text))
    return min(after, default=limit)


_PLACES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    (" ", lambda before: not before.isspace()),
    ("\n", str.isalnum),
    ("\r", str.isalnum),
)


def last_place(text: str, mark: str, start: int, limit: int, fits: Callable[[str], bool]) -> int:
    """Return the last place of `mark` past `start`, up to `limit`, behind a character that fits, or -1."""
    place = text.rfind(mark, start + 1, limit + 1)
    while place > 0 and not fits(text[place - 1]):
        place = text.rfind(mark, start + 1, place)
    return place


def next_place(text: str, mark: str, limit: int, furthest: int, fits: Callable[[str], bool]) -> int:
    """Return the first place of `mark` past `limit`, to `furthest`, behind a character that fits, or -1."""
    place = text.find(mark, limit + 1, furthest + 1)
    while place > 0 and not fits(text[place - 1]):
        place = text.find(mark, place + 1, furthest + 1)
    return place


def code_points(text: str) -> np.ndarray:
    """Return the code point of each character of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _visible(character: str) -> str:
    code = f"U+{ord(character):04X}"
    return f"'{character}' ({code})" if character.isprintable() else f"the character {code}"

"""Vocabularies, and the tokenizer.json that is written for them; `vocabulary_reader` reads them back.

https://huggingface.co/docs/tokenizers and the `tokenizer.json` files of GPT-2 and Llama 3 are the reference.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from mygpt_cli.tokens.added_tokens import Added
from mygpt_cli.tokens.template import Template, write_template

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class CharacterVocabulary:
    """`characters[i]` is the text of token i; `specials` and `added` are further tokens."""

    characters: str
    specials: Mapping[str, int]
    added: Mapping[str, Added] = field(default_factory=dict)
    template: Template = Template()  # noqa: RUF009 - a frozen value


@dataclass(frozen=True)
class BytePairVocabulary:
    """Token bytes to ids, which are merge ranks too; the pattern that splits text first; further tokens.

    `unmerged` are tokens that no text gives, since no merge makes them, in the letters of the byte alphabet.
    """

    ranks: Mapping[bytes, int]
    pattern: str
    specials: Mapping[str, int]
    added: Mapping[str, Added] = field(default_factory=dict)
    unmerged: Mapping[str, int] = field(default_factory=dict)
    template: Template = Template()  # noqa: RUF009 - a frozen value


@dataclass(frozen=True)
class ForeignVocabulary:
    """What `tokenizers` runs: the `text` of a tokenizer.json, the bytes of its tokens, and further tokens.

    `inner` is the text of one that puts no space in front, for a text that goes on. `ranks` are those of a
    BytePairVocabulary, and empty where tokens are not made of bytes in the order of their ids. `spaces` says
    whether ▁ stands for a space, and `strips` what decoding takes away from the front of a text, since
    encoding may have put it there. `cut` says where a text can be cut without a change in its tokens: where
    `safe_cut` says, before any space after something else, or nowhere that is known.
    """

    text: str
    inner: str
    tokens: Mapping[int, bytes]
    ranks: Mapping[bytes, int]
    spaces: bool
    strips: Literal["nothing", "a space", "spaces of a token"]
    cut: Literal["words", "spaces", "nowhere"]
    specials: Mapping[str, int]
    added: Mapping[str, Added] = field(default_factory=dict)
    template: Template = Template()  # noqa: RUF009 - a frozen value


Vocabulary = CharacterVocabulary | BytePairVocabulary | ForeignVocabulary


@cache
def bytes_of_alphabet() -> Mapping[str, int]:
    """Return the byte that each character of the byte alphabet stands for."""
    return {character: byte for byte, character in enumerate(byte_alphabet())}


def byte_alphabet() -> list[str]:
    """Return GPT-2's printable character for each of the 256 bytes (src/encoder.py, bytes_to_unicode)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in plain else next(spare)) for byte in range(256)]


def spelled_bytes(text: str) -> bytes:
    """Return the bytes of a token in the byte alphabet, or of the text itself where it is not in that."""
    bytes_of = bytes_of_alphabet()
    if all(character in bytes_of for character in text):
        return bytes(map(bytes_of.__getitem__, text))
    return text.encode("utf-8", "replace")


def write_vocabulary(vocabulary: CharacterVocabulary | BytePairVocabulary) -> str:
    """Return the text of a tokenizer.json that encodes and decodes exactly as the vocabulary does."""
    if isinstance(vocabulary, CharacterVocabulary):
        vocab = {character: token for token, character in enumerate(vocabulary.characters)}
        merges: list[list[str]] = []
        pre_tokenizer = processor = None
        decoder: dict[str, object] = {"type": "Fuse"}
    else:
        alphabet = byte_alphabet()
        names = {token: "".join(alphabet[byte] for byte in token) for token in vocabulary.ranks}
        vocab = {names[token]: rank for token, rank in vocabulary.ranks.items()} | dict(vocabulary.unmerged)
        merges = [[names[left], names[right]] for left, right in _splits(vocabulary.ranks)]
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        }
        split = {
            "type": "Split",
            "pattern": {"Regex": vocabulary.pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        pre_tokenizer = {"type": "Sequence", "pretokenizers": [split, byte_level]}
        decoder = byte_level
        processor = write_template(vocabulary.template)
    specials = [added_token(text, token) for text, token in vocabulary.specials.items()]
    added = [added_token(text, one.id, late=one.late) for text, one in vocabulary.added.items()]
    # tiktoken looks a whole piece up before it merges; but there must be no way to what no merge makes.
    whole_pieces = isinstance(vocabulary, BytePairVocabulary) and not vocabulary.unmerged
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": sorted(specials + added, key=lambda entry: int(entry["id"])),
            "normalizer": None,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": processor,
            "decoder": decoder,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": whole_pieces,
                # Added tokens stand here too, or a gap in front of their ids would be closed on reading.
                "vocab": vocab | {entry["content"]: entry["id"] for entry in specials + added},
                "merges": merges,
            },
        },
        ensure_ascii=False,
    )


def _splits(ranks: Mapping[bytes, int]) -> Iterable[tuple[bytes, bytes]]:
    """Yield every pair that makes a token, in order of its rank: tiktoken merges whatever pair makes one."""
    for token in sorted(ranks, key=ranks.__getitem__):
        for cut in range(1, len(token)):
            if token[:cut] in ranks and token[cut:] in ranks:
                yield token[:cut], token[cut:]


def added_token(text: str, token: int, *, late: bool | None = None) -> dict[str, Any]:
    """Return the entry of a special token, or of an ordinary one that comes late or not."""
    return {
        "id": token,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": bool(late),
        "special": late is None,
    }

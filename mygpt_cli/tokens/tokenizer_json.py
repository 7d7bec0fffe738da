"""Vocabularies to and from the files that Hugging Face's `tokenizers` reads; reading is strict.

https://huggingface.co/docs/tokenizers and the `tokenizer.json` files of GPT-2 and Llama 3 are the reference.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.strict_json import read_bytes, read_json
from mygpt_cli.tokens.added_tokens import Added

MAX_VOCABULARY = 1 << 20
MAX_PATTERN = 4096
MAX_UNMERGED = 4096  # tokens, and characters of one
END_OF_TEXT = "<|endoftext|>"
# https://github.com/openai/gpt-2, src/encoder.py; Hugging Face's ByteLevel pre-tokenizer has it built in.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


@dataclass(frozen=True)
class CharacterVocabulary:
    """`characters[i]` is the text of token i; `specials` and `added` are further tokens."""

    characters: str
    specials: Mapping[str, int]
    added: Mapping[str, Added] = field(default_factory=dict)


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


Vocabulary = CharacterVocabulary | BytePairVocabulary


def byte_alphabet() -> list[str]:
    """Return GPT-2's printable character for each of the 256 bytes (src/encoder.py, bytes_to_unicode)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in plain else next(spare)) for byte in range(256)]


def write_vocabulary(vocabulary: Vocabulary) -> str:
    """Return the text of a tokenizer.json that encodes and decodes exactly as the vocabulary does."""
    if isinstance(vocabulary, CharacterVocabulary):
        vocab = {character: token for token, character in enumerate(vocabulary.characters)}
        merges: list[list[str]] = []
        pre_tokenizer = None
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
    specials = [_added_token(text, token) for text, token in vocabulary.specials.items()]
    added = [_added_token(text, one.id, late=one.late) for text, one in vocabulary.added.items()]
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
            "post_processor": None,
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


def _added_token(text: str, token: int, *, late: bool | None = None) -> dict[str, Any]:
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


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read tokenizer.json, or else vocab.json with merges.txt, from a checkpoint folder.

    Raises CheckpointError for files that are missing, damaged, or of a kind that would encode differently.
    """
    path = folder / "tokenizer.json"
    settings = _read_settings(folder)
    if path.is_file():
        return _read_tokenizer_json(path)
    if (folder / "vocab.json").is_file():
        return _read_vocab_and_merges(folder, settings)
    raise CheckpointError(f"{folder} holds no tokenizer.json", "give a folder that `mygpt train` wrote")


def _read_tokenizer_json(path: Path) -> Vocabulary:
    root = read_json(path)
    model = _get(path, root, "model", dict)
    if model.get("type", "BPE") != "BPE":
        raise _unsupported(path, f"a model of type {model['type']!r}")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            raise _unsupported(path, f"'{key}'")
    if root.get("normalizer") is not None:
        raise _unsupported(path, f"a normalizer of type {_type_of(root['normalizer'])!r}")
    _check_post_processor(path, root.get("post_processor"))
    vocab = _check_vocab(path, _get(path, model, "vocab", dict))
    specials, added = _read_added_tokens(path, _get(path, root, "added_tokens", list, []))
    merges = _read_merges(path, _get(path, model, "merges", list))
    decoder = _type_of(root.get("decoder"))
    if root.get("pre_tokenizer") is None and decoder == "Fuse":
        if merges:
            raise _unsupported(path, "merges without a byte-level pre-tokenizer")
        return _characters(path, vocab, specials, added)
    pattern = _read_pattern(path, root.get("pre_tokenizer"))
    if decoder != "ByteLevel":
        raise _unsupported(path, f"a decoder of type {decoder!r}")
    return _byte_pairs(
        path, vocab, merges, pattern, specials, added, whole_pieces=model.get("ignore_merges") is True
    )


def _read_settings(folder: Path) -> dict[str, Any]:
    """Return what tokenizer_config.json and special_tokens_map.json say.

    CheckpointError for a space in front of the text, which tokenizer.json need not know of.
    """
    settings: dict[str, Any] = {}
    for path in (folder / "special_tokens_map.json", folder / "tokenizer_config.json"):
        if path.is_file():
            settings |= read_json(path)
            if settings.get("add_prefix_space"):
                raise _unsupported(path, "a setting that puts a space in front of the text")
    return settings


def _roles(settings: dict[str, Any]) -> set[str]:
    """Return the texts of the tokens that have a part to play, such as to end a text: they are special."""
    more = settings.get("additional_special_tokens")
    roles = [value for key, value in settings.items() if key.endswith("_token")]
    roles += more if isinstance(more, list) else []
    texts = [role.get("content") if isinstance(role, dict) else role for role in roles]
    return {END_OF_TEXT, *(text for text in texts if isinstance(text, str))}


def _read_vocab_and_merges(folder: Path, settings: dict[str, Any]) -> BytePairVocabulary:
    path = folder / "vocab.json"
    vocab = _check_vocab(path, read_json(path))
    more, roles = folder / "added_tokens.json", _roles(settings)
    entries = [_added_token(text, vocab[text]) for text in sorted(roles & vocab.keys())]
    for text, token in (_check_vocab(more, read_json(more)) if more.is_file() else {}).items():
        if text not in roles or vocab.get(text) != token:
            entries.append(_added_token(text, token, late=None if text in roles else True))
    specials, added = _read_added_tokens(more, entries)
    path = folder / "merges.txt"
    try:
        lines = read_bytes(path).decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as fault:
        raise _damaged(path, "is not UTF-8") from fault
    if lines[0].startswith("#version"):
        del lines[0]
    merges = _read_merges(path, [line for line in lines if line])
    return _byte_pairs(path, vocab, merges, GPT2_PATTERN, specials, added, whole_pieces=False)


def _check_vocab(path: Path, vocab: dict[str, Any]) -> dict[str, int]:
    if len(vocab) > MAX_VOCABULARY:
        raise _damaged(path, f"has more than {MAX_VOCABULARY} tokens")
    if not all(type(token) is int and 0 <= token < MAX_VOCABULARY for token in vocab.values()):
        raise _damaged(path, f"has a token id that is not a whole number below {MAX_VOCABULARY}")
    if len(set(vocab.values())) != len(vocab):
        raise _damaged(path, "gives one id to two tokens")
    return vocab


def _read_added_tokens(path: Path, entries: list[Any]) -> tuple[dict[str, int], dict[str, Added]]:
    """Return the special tokens, and the ordinary ones that were added."""
    ids: dict[str, Any] = {}
    ordinary: dict[str, bool] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise _damaged(path, "has an added token that is not an object")
        text = _get(path, entry, "content", str)
        if not text or text in ids or any("\ud800" <= c <= "\udfff" for c in text):
            raise _damaged(path, f"has an added token twice, without text, or of half characters: {text!r}")
        for flag, what in (
            ("lstrip", "takes the white space before it along"),
            ("rstrip", "takes the white space after it along"),
            ("single_word", "stands only for whole words"),
        ):
            if entry.get(flag):
                raise _unsupported(path, f"the added token {text!r}, which {what},")
        ids[text] = entry.get("id")
        if entry.get("special") is not True:
            ordinary[text] = entry.get("normalized") is not False
    _check_vocab(path, ids)
    added = {text: Added(ids[text], late) for text, late in ordinary.items()}
    return {text: token for text, token in ids.items() if text not in added}, added


def _read_merges(path: Path, merges: list[Any]) -> list[tuple[str, str]]:
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in merges]
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(x, str) for x in pair):
            raise _damaged(path, "has a merge that is not a pair of tokens")
    return [(left, right) for left, right in pairs]


def _read_pattern(path: Path, pre_tokenizer: Any) -> str:
    """Return the splitting pattern of `ByteLevel`, or of `Sequence[Split, ByteLevel]`."""
    kind = _type_of(pre_tokenizer)
    steps = [pre_tokenizer]
    if kind == "Sequence":
        steps = _get(path, pre_tokenizer, "pretokenizers", list)
    kinds = [_type_of(step) for step in steps]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise _unsupported(path, f"a pre-tokenizer of type {kinds if kind == 'Sequence' else kind!r}")
    byte_level = steps[-1]
    if byte_level.get("add_prefix_space") is not False:
        raise _unsupported(path, "a pre-tokenizer that puts a space in front of the text")
    own_pattern = byte_level.get("use_regex", True) is not False
    if len(steps) == 1 and own_pattern:
        return GPT2_PATTERN
    if len(steps) == 1 or own_pattern:
        raise _unsupported(path, "a pre-tokenizer with no splitting pattern, or with two,")
    pattern = _get(path, steps[0], "pattern", dict).get("Regex")
    if not isinstance(pattern, str) or steps[0].get("behavior") != "Isolated" or steps[0].get("invert"):
        raise _unsupported(path, "a split that does not isolate the matches of a regular expression")
    if len(pattern) > MAX_PATTERN:
        raise _damaged(path, f"has a splitting pattern longer than {MAX_PATTERN} characters")
    return pattern


def _check_post_processor(path: Path, processor: Any) -> None:
    """Refuse what adds tokens; ByteLevel moves offsets only, and GPT-2's template can be an empty one."""
    kind = _type_of(processor)
    if kind == "TemplateProcessing":
        if processor.get("single") != [{"Sequence": {"id": "A", "type_id": 0}}]:
            raise _unsupported(path, "a post-processor that puts special tokens around the text")
    elif processor is not None and kind != "ByteLevel":
        raise _unsupported(path, f"a post-processor of type {kind!r}")


def _characters(
    path: Path, vocab: dict[str, int], specials: dict[str, int], added: dict[str, Added]
) -> CharacterVocabulary:
    further = specials | {text: one.id for text, one in added.items()}
    characters = sorted((text for text in vocab if text not in further), key=vocab.__getitem__)
    if not all(len(text) == 1 and not "\ud800" <= text <= "\udfff" for text in characters):
        raise _damaged(path, "has tokens that are not one character in a vocabulary of characters")
    if not characters or [vocab[text] for text in characters] != list(range(len(characters))):
        raise _damaged(path, "does not number its characters from zero without gaps")
    _check_further(path, vocab, further, len(characters))
    return CharacterVocabulary("".join(characters), specials, added)


def _byte_pairs(
    path: Path,
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    pattern: str,
    specials: dict[str, int],
    added: dict[str, Added],
    *,
    whole_pieces: bool,
) -> BytePairVocabulary:
    further = specials | {text: one.id for text, one in added.items()}
    made = {left + right for left, right in merges}
    # What was added may be there already, as a byte or as what merges make.
    ordinary = {
        text: token
        for text, token in vocab.items()
        if text not in further or (text in added and (text in made or len(text) == 1))
    }
    unmerged = {} if whole_pieces else _unmerged(path, ordinary, made)
    bytes_of = {character: byte for byte, character in enumerate(byte_alphabet())}
    try:
        ranks = {
            bytes(map(bytes_of.__getitem__, text)): token
            for text, token in ordinary.items()
            if text not in unmerged
        }
    except KeyError as fault:
        raise _damaged(path, f"has a token with {fault.args[0]!r}, which stands for no byte") from None
    for text in added.keys() & ordinary.keys():
        if text.encode() not in ranks:
            raise _unsupported(path, f"the added token {text!r}, whose name is that of other bytes,")
    if not all(bytes([byte]) in ranks for byte in range(256)) or b"" in ranks:
        raise _damaged(path, "has an empty token, or lacks one of the 256 single bytes")
    _check_further(path, vocab, further, 0)
    newest = -1
    for left, right in merges:
        if left not in ordinary or right not in ordinary or left + right not in ordinary:
            raise _damaged(path, f"merges {left!r} and {right!r}, which are not all tokens")
        token = ordinary[left + right]
        if token < newest:
            raise _unsupported(path, f"merges out of the order of their ids ({left!r} with {right!r})")
        newest = token
    return BytePairVocabulary(ranks, pattern, specials, added, unmerged)


def _unmerged(path: Path, ordinary: dict[str, int], made: set[str]) -> dict[str, int]:
    """Return the tokens of several characters that no merge makes, such as `<s>`.

    CheckpointError for one whose parts are there: then it is the merge that is missing.
    """
    unmerged = {text: token for text, token in ordinary.items() if len(text) > 1 and text not in made}
    if len(unmerged) > MAX_UNMERGED or any(len(text) > MAX_UNMERGED for text in unmerged):
        raise _unsupported(path, "many or very long tokens that no merge makes,")
    for text in unmerged:
        for cut in range(1, len(text)):
            if text[:cut] in ordinary and text[cut:] in ordinary:
                raise _unsupported(path, f"a token that no merge makes, {text!r},")
    return unmerged


def _check_further(path: Path, vocab: dict[str, int], further: dict[str, int], first: int) -> None:
    ordinary = {token for text, token in vocab.items() if text not in further}
    for text, token in further.items():
        if token in ordinary or token < first or vocab.get(text, token) != token:
            raise _damaged(path, f"gives the added token {text!r} an id that is not its own")


def _get(path: Path, holder: dict[str, Any], key: str, kind: type, default: object = None) -> Any:
    value = holder.get(key, default)
    if not isinstance(value, kind):
        raise _damaged(path, f"has no '{key}' of type {kind.__name__}")
    return value


def _type_of(part: object) -> object:
    return part.get("type") if isinstance(part, dict) else None


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} {what}", "the file is damaged; copy the checkpoint again or train a new one"
    )


def _unsupported(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} has {what} and mygpt does not support that",
        "byte-level byte-pair encoding as in GPT-2 and Llama 3 works",
    )

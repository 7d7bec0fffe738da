"""Vocabularies from the files of Hugging Face's `tokenizers`, read strictly, for those that tiktoken can run.

https://huggingface.co/docs/tokenizers and the `tokenizer.json` files of GPT-2 and Llama 3 are the reference.
"""

from pathlib import Path
from typing import Any

from mygpt_cli.tokens.added_tokens import Added
from mygpt_cli.tokens.json_parts import damaged, flag, get, steps_of, type_of, unsupported
from mygpt_cli.tokens.patterns import GPT2_PATTERN, KNOWN
from mygpt_cli.tokens.template import Template, read_template
from mygpt_cli.tokens.tokenizer_json import BytePairVocabulary, CharacterVocabulary, bytes_of_alphabet

MAX_VOCABULARY = 1 << 20
MAX_UNMERGED = 4096  # tokens, and characters of one


def read_strictly(path: Path, root: dict[str, Any]) -> CharacterVocabulary | BytePairVocabulary:
    """Read what a tokenizer.json holds: characters, or byte pairs with a known splitting pattern.

    Raises CheckpointError for what is damaged, UnsupportedError for what would encode differently.
    """
    model = get(path, root, "model", dict)
    if model.get("type", "BPE") != "BPE":
        raise unsupported(path, f"a model of type {model['type']!r:.60}")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            raise unsupported(path, f"'{key}'")
    if root.get("normalizer") is not None:
        raise unsupported(path, f"a normalizer of type {type_of(root['normalizer'])!r:.60}")
    template = read_template(path, root.get("post_processor"))
    decoder, pre_tokenizer = type_of(root.get("decoder")), root.get("pre_tokenizer")
    characters = pre_tokenizer is None and decoder == "Fuse"
    pattern = "" if characters else _read_pattern(path, pre_tokenizer)
    vocab = check_vocab(path, get(path, model, "vocab", dict))
    specials, added = _read_added_tokens(path, root)
    merges = read_merges(path, get(path, model, "merges", list))
    if characters:
        if merges or template != Template():
            raise unsupported(path, "merges without a byte-level pre-tokenizer")
        return _characters(path, vocab, specials, added)
    if decoder != "ByteLevel":
        raise unsupported(path, f"a decoder of type {decoder!r:.60}")
    whole_pieces = model.get("ignore_merges") is True
    return _byte_pairs(path, vocab, merges, pattern, specials, added, template, whole_pieces=whole_pieces)


def check_vocab(path: Path, vocab: dict[str, Any]) -> dict[str, int]:
    """Return token names with their ids; CheckpointError unless these are small, whole, and each its own."""
    if len(vocab) > MAX_VOCABULARY:
        raise damaged(path, f"has more than {MAX_VOCABULARY} tokens")
    if not all(type(token) is int and 0 <= token < MAX_VOCABULARY for token in vocab.values()):
        raise damaged(path, f"has a token id that is not a whole number below {MAX_VOCABULARY}")
    if len(set(vocab.values())) != len(vocab):
        raise damaged(path, "gives one id to two tokens")
    return vocab


def read_added_entries(path: Path, root: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the added tokens of a file, checked, with all their properties; CheckpointError for damage."""
    entries: list[dict[str, Any]] = []
    for entry in get(path, root, "added_tokens", list, []):
        if not isinstance(entry, dict):
            raise damaged(path, "has an added token that is not an object")
        text = get(path, entry, "content", str)
        if not text or not _is_text(text):
            raise damaged(path, f"has an added token without text, or of half characters: {text!r:.60}")
        special = flag(path, entry, "special")
        flags = {name: flag(path, entry, name) for name in ("lstrip", "rstrip", "single_word")}
        normalized = flag(path, entry, "normalized", not special)
        entries.append(
            {"id": entry.get("id"), "content": text, "normalized": normalized, "special": special, **flags}
        )
    names = [entry["content"] for entry in entries]
    if len(set(names)) != len(names):
        raise damaged(path, "has an added token twice")
    check_vocab(path, {entry["content"]: entry["id"] for entry in entries})
    _check_numbering(path, get(path, get(path, root, "model", dict), "vocab", dict), entries)
    return entries


def _check_numbering(path: Path, vocab: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    """Raise CheckpointError for an added token with another id than the library gives it.

    One that is not among the others comes after them, and after those that were added before, without a gap.
    """
    following = len(vocab)
    for entry in entries:
        token, text = entry["id"], entry["content"]
        if text not in vocab and token != following:
            raise damaged(path, f"gives the added token {text!r:.60} the id {token}, and {following} is next")
        following = max(following, token + 1)


def _read_added_tokens(path: Path, root: dict[str, Any]) -> tuple[dict[str, int], dict[str, Added]]:
    """Return the special tokens, and the ordinary ones that were added."""
    specials: dict[str, int] = {}
    added: dict[str, Added] = {}
    for entry in read_added_entries(path, root):
        text, token = entry["content"], entry["id"]
        if entry["special"]:
            specials[text] = token
            continue
        for name, what in (
            ("lstrip", "takes the white space before it along"),
            ("rstrip", "takes the white space after it along"),
            ("single_word", "stands only for whole words"),
        ):
            if entry[name]:
                raise unsupported(path, f"the added token {text!r:.60}, which {what},")
        added[text] = Added(token, entry["normalized"])
    return specials, added


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def read_merges(path: Path, merges: list[Any]) -> list[tuple[str, str]]:
    """Return the pairs that are merged, in order; CheckpointError for what is no pair."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else merge for merge in merges]
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(x, str) for x in pair):
            raise damaged(path, "has a merge that is not a pair of tokens")
    return [(left, right) for left, right in pairs]


def _read_pattern(path: Path, pre_tokenizer: Any) -> str:
    """Return the splitting pattern of `ByteLevel`, or of `Sequence[Split, ByteLevel]`."""
    steps = steps_of(path, pre_tokenizer, "pretokenizers")
    kinds = [type_of(step) for step in steps]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise unsupported(path, f"a pre-tokenizer of type {kinds[0] if len(kinds) == 1 else kinds!r}")
    byte_level = steps[-1]
    if byte_level.get("add_prefix_space") is not False:
        raise unsupported(path, "a pre-tokenizer that puts a space in front of the text")
    own_pattern = byte_level.get("use_regex", True) is not False
    if len(steps) == 1 and own_pattern:
        return GPT2_PATTERN
    if len(steps) == 1 or own_pattern:
        raise unsupported(path, "a pre-tokenizer with no splitting pattern, or with two,")
    pattern = get(path, steps[0], "pattern", dict).get("Regex")
    if not isinstance(pattern, str) or pattern not in KNOWN:
        raise unsupported(path, "a split by another regular expression")
    if steps[0].get("behavior") != "Isolated" or steps[0].get("invert"):
        raise unsupported(path, "a split that does not isolate the matches of its regular expression")
    return pattern


def _characters(
    path: Path, vocab: dict[str, int], specials: dict[str, int], added: dict[str, Added]
) -> CharacterVocabulary:
    further = specials | {text: one.id for text, one in added.items()}
    characters = sorted((text for text in vocab if text not in further), key=vocab.__getitem__)
    if not all(len(text) == 1 and _is_text(text) for text in characters):
        raise damaged(path, "has tokens that are not one character in a vocabulary of characters")
    if not characters or [vocab[text] for text in characters] != list(range(len(characters))):
        raise damaged(path, "does not number its characters from zero without gaps")
    _check_further(path, vocab, further, len(characters))
    return CharacterVocabulary("".join(characters), specials, added)


def _byte_pairs(
    path: Path,
    vocab: dict[str, int],
    merges: list[tuple[str, str]],
    pattern: str,
    specials: dict[str, int],
    added: dict[str, Added],
    template: Template,
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
    # Of whole pieces, too: what no merge makes from its parts, tiktoken would.
    unmerged = _unmerged(path, ordinary, made)
    unmerged = {} if whole_pieces else unmerged
    bytes_of = bytes_of_alphabet()
    try:
        ranks = {
            bytes(map(bytes_of.__getitem__, text)): token
            for text, token in ordinary.items()
            if text not in unmerged
        }
    except KeyError as fault:
        raise damaged(path, f"has a token with {fault.args[0]!r}, which stands for no byte") from None
    for text in added.keys() & ordinary.keys():
        if text.encode() not in ranks:
            raise unsupported(path, f"the added token {text!r:.60}, whose name is that of other bytes,")
    if not all(bytes([byte]) in ranks for byte in range(256)) or b"" in ranks:
        raise damaged(path, "has an empty token, or lacks one of the 256 single bytes")
    _check_further(path, vocab, further, 0)
    newest = -1
    for left, right in merges:
        if left not in ordinary or right not in ordinary or left + right not in ordinary:
            raise damaged(path, f"merges {left!r:.60} and {right!r:.60}, which are not all tokens")
        token = ordinary[left + right]
        if token < newest:
            raise unsupported(path, f"merges out of the order of their ids ({left!r:.60} with {right!r:.60})")
        newest = token
    return BytePairVocabulary(ranks, pattern, specials, added, unmerged, template)


def _unmerged(path: Path, ordinary: dict[str, int], made: set[str]) -> dict[str, int]:
    """Return the tokens of several characters that no merge makes, such as `<s>`.

    CheckpointError for one whose parts are there: then it is the merge that is missing.
    """
    unmerged = {text: token for text, token in ordinary.items() if len(text) > 1 and text not in made}
    if len(unmerged) > MAX_UNMERGED or any(len(text) > MAX_UNMERGED for text in unmerged):
        raise unsupported(path, "many or very long tokens that no merge makes,")
    for text in unmerged:
        for cut in range(1, len(text)):
            if text[:cut] in ordinary and text[cut:] in ordinary:
                raise unsupported(path, f"a token that no merge makes, {text!r:.60},")
    return unmerged


def _check_further(path: Path, vocab: dict[str, int], further: dict[str, int], first: int) -> None:
    ordinary = {token for text, token in vocab.items() if text not in further}
    for text, token in further.items():
        if token in ordinary or token < first or vocab.get(text, token) != token:
            raise damaged(path, f"gives the added token {text!r:.60} an id that is not its own")

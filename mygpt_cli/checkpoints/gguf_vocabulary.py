"""A tokenizer in the terms of llama.cpp: its tokens, their types, and merges or scores.

llama.cpp knows splitting patterns by names and merges bytes, or scores pieces of characters as SentencePiece
does (src/llama-vocab.cpp). What it would read as other tokens than we do is refused.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer as Library
from tokenizers import models

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.tokens.patterns import GPT2_PATTERN, GPT4_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_json import spelled_bytes

BYTES, PIECES = "gpt2", "llama"  # what is merged, by the names of the tokenizers that began with it
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # gguf.TokenType
# The patterns that llama.cpp has, by the names under which it has them. The first two of these are equal.
NAMES = {
    GPT4_PATTERN: "llama-bpe",
    LLAMA3_PATTERN: "llama-bpe",
    QWEN2_PATTERN: "qwen2",
    GPT2_PATTERN: "gpt-2",
}
DIGITS_APART = "smollm"  # GPT-2's pattern after that
WHOLE_PIECES = ("llama-bpe",)  # where a piece that is a token is not merged
SPACE = "▁"
BYTE_NAME = re.compile("<0x([0-9A-F]{2})>")
NEVER = b"\xff"  # a byte that no UTF-8 has
HINT = "`mygpt train FILE` trains a model that can be exported, if --arch and --tokenizer are left out"


@dataclass(frozen=True)
class GgufVocabulary:
    """What a GGUF file says of a tokenizer, with an entry for each of the model's ids.

    `kind` is BYTES, with `merges`, or PIECES, with `scores`; `pre` names the splitting
    pattern. A text begins with `begin` where that is added, and `ends` are up to three ids that end one.
    """

    kind: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    begin: int
    ends: tuple[int, ...]
    unknown: int | None
    adds_begin: bool
    adds_space: bool
    chat_template: str | None
    notes: tuple[str, ...]

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that llama.cpp writes for a token."""
        text, kind = self.tokens[token], self.types[token]
        if kind == UNUSED:
            return b""
        if kind in (CONTROL, USER_DEFINED):
            return text.encode()
        if self.kind == BYTES:
            return spelled_bytes(text)
        if kind == BYTE and (found := BYTE_NAME.fullmatch(text)):
            return bytes.fromhex(found[1])
        return text.replace(SPACE, " ").encode()


def describe(tokenizer: Tokenizer) -> GgufVocabulary:
    """Return a tokenizer as llama.cpp has it; CheckpointError with the reason where it has none such."""
    root = json.loads(tokenizer.to_json())
    notes: list[str] = []
    kind, pre, adds_space, scores = PIECES, "default", False, {}
    if "ByteLevel" in _types(_steps(root, "pre_tokenizer", "pretokenizers")):
        kind, pre = BYTES, _splitting(root)
        if not root["model"]["merges"]:
            raise _refused("it has single bytes, and no merges")
        _check_whole_pieces(root, pre)
        if _types(_steps(root, "normalizer", "normalizers")):
            notes.append("llama.cpp does not bring text into the form NFC, as the tokenizer does")
    else:
        adds_space = _adds_space(root, notes)
        scores = _scores(root)
    for entry in root["added_tokens"]:
        if not entry["special"] and (entry["lstrip"] or entry["rstrip"] or entry["single_word"]):
            raise _refused(f"the added token {entry['content']!r:.60} matches in a way that it does not have")
    names, types = _tokens(root, tokenizer.vocab_size, pieces=kind == PIECES)
    begin, ends = _ends(tokenizer, notes)
    unknown = root["model"].get("unk_token")
    found = GgufVocabulary(
        kind=kind,
        pre=pre,
        tokens=names,
        types=types,
        merges=[] if scores else [f"{left} {right}" for left, right in root["model"]["merges"]],
        scores=[scores.get(name, 0.0) for name in names] if scores else [],
        begin=begin,
        ends=ends,
        unknown=None if unknown is None or not scores else root["model"]["vocab"][unknown],
        adds_begin=bool(tokenizer.prefix),
        adds_space=adds_space,
        chat_template=_chat_template(tokenizer.carried),
        notes=tuple(notes),
    )
    for token, name in enumerate(names):
        if found.token_bytes(token) != tokenizer.token_bytes(token):
            raise _refused(f"its token {name!r:.60} would stand for another text")
    return found


def _refused(why: str) -> CheckpointError:
    return CheckpointError(f"this tokenizer has no counterpart in llama.cpp: {why}", HINT)


def _steps(root: Mapping[str, Any], part: str, key: str) -> list[dict[str, Any]]:
    """Return the steps of a part of a tokenizer.json that mygpt has written."""
    found = root[part] or {key: []}
    steps: list[dict[str, Any]] = found.get(key, [found])
    return steps


def _types(steps: list[dict[str, Any]]) -> list[str]:
    return [step["type"] for step in steps]


def _splitting(root: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for the way in which text is split."""
    normalizers = _types(_steps(root, "normalizer", "normalizers"))
    if normalizers not in ([], ["NFC"]):
        raise _refused(f"it normalises text ({', '.join(normalizers)})")
    match _steps(root, "pre_tokenizer", "pretokenizers"):
        case [{"type": "ByteLevel", "use_regex": True}]:
            return NAMES[GPT2_PATTERN]
        case [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False},
        ] if pattern in NAMES:
            return NAMES[pattern]
        case [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}]:
            return DIGITS_APART
    raise _refused("it splits text by a pattern that is not GPT-2's, Llama 3's, Qwen2's or SmolLM's")


def _check_whole_pieces(root: Mapping[str, Any], pre: str) -> None:
    """Raise CheckpointError where it matters whether a piece that is a token is merged all the same."""
    model = root["model"]
    if model["ignore_merges"] == (pre in WHOLE_PIECES):
        return
    added = {entry["content"] for entry in root["added_tokens"]}
    names = [name for name in model["vocab"] if name not in added]
    vocab = {name: model["vocab"][name] for name in names}
    merger = Library(models.BPE(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]]))
    merged = merger.encode_batch_fast(names, add_special_tokens=False)
    for name, one in zip(names, merged, strict=True):
        if one.ids != [vocab[name]]:
            raise _refused(f"no merges lead from bytes to its token {name!r:.60}")


def _adds_space(root: Mapping[str, Any], notes: list[str]) -> bool:
    """Return whether a space is put in front of a text of pieces."""
    steps = [*_steps(root, "normalizer", "normalizers"), *_steps(root, "pre_tokenizer", "pretokenizers")]
    model = root["model"]
    match steps:
        case [{"type": "Replace"}]:
            return False
        case [{"type": "Prepend"}, {"type": "Replace"}]:
            return True
        case [{"type": "Metaspace", "prepend_scheme": scheme, "split": split}]:
            if split and any(SPACE in name[1:] for name in model["vocab"]):
                raise _refused("it splits text at spaces that its tokens hold")
            if scheme != "never":
                ordinary = any(not entry["special"] for entry in root["added_tokens"])
                after = ", and after an added token" if scheme == "first" and ordinary else ""
                notes.append(f"llama.cpp puts a space also before a text that begins with one{after}")
            return bool(scheme != "never")
    if not model["merges"]:
        raise _refused("it has a token for each character, and no merges")
    raise _refused(f"it prepares text in another way ({', '.join(_types(steps))})")


def _scores(root: Mapping[str, Any]) -> dict[str, float]:
    """Return the score of each token that merges make; the best is merged first, as the first merge is."""
    model = root["model"]
    vocab: dict[str, int] = model["vocab"]
    if model["ignore_merges"] or not all(f"<0x{byte:02X}>" in vocab for byte in range(256)):
        raise _refused("it lacks tokens for single bytes, or takes whole pieces without merging them")
    pairs = [(left, right) for left, right in model["merges"]]
    order = list(dict.fromkeys(left + right for left, right in pairs))
    ranks = {name: place for place, name in enumerate(order)}
    places = [ranks[left + right] for left, right in pairs]
    if places != sorted(places):
        raise _refused("its merges are not in the order of the tokens that they make")
    listed = set(pairs)
    # What was added is cut out of the text before. All else that two tokens make is merged there.
    added = {entry["content"] for entry in root["added_tokens"] if not entry["special"]}
    names = vocab.keys() - added
    for name in names:
        for pair in _cuts(name):
            if names.issuperset(pair) and pair not in listed:
                raise _refused(f"the pair {pair[0]!r:.60}, {pair[1]!r:.60} makes a token, and is not merged")
    return {name: -float(place) for name, place in ranks.items()}


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    return ((name[:place], name[place:]) for place in range(1, len(name)))


def _tokens(root: Mapping[str, Any], size: int, *, pieces: bool) -> tuple[list[str], list[int]]:
    """Return the name and the type of each id; those that the tokenizer does not have are padding."""
    names = [f"[PAD{token}]" for token in range(size)]
    types = [UNUSED] * size
    unknown = root["model"].get("unk_token") if pieces else None
    for name, token in root["model"]["vocab"].items():
        if token < size:
            names[token] = name
            types[token] = BYTE if pieces and BYTE_NAME.fullmatch(name) else NORMAL
    for entry in root["added_tokens"]:
        if (token := entry["id"]) < size:
            # llama.cpp looks for these in the text itself.
            names[token] = entry["content"].replace(SPACE, " ") if pieces else entry["content"]
            types[token] = CONTROL if entry["special"] else USER_DEFINED
    if unknown is not None and root["model"]["vocab"][unknown] < size:
        types[root["model"]["vocab"][unknown]] = UNKNOWN
    if len(set(names)) < size:
        raise _refused("two of its tokens have one name")
    return names, types


def _ends(tokenizer: Tokenizer, notes: list[str]) -> tuple[int, tuple[int, ...]]:
    """Return the token that begins a text, and those that end one.

    llama.cpp takes ordinary tokens where a file names none. Then a byte stands in that no text has.
    """
    if len(tokenizer.prefix) > 1:
        raise _refused("it puts several tokens before a text")
    ends = tokenizer.ends or tuple(token for token in [tokenizer.end_of_text] if token is not None)
    if len(ends) > 3:
        notes.append(f"llama.cpp ends a text at three tokens; of {len(ends)}, it gets the first three")
    if not ends:
        ids = (token for token in range(tokenizer.vocab_size) if tokenizer.token_bytes(token) == NEVER)
        ends = tuple(ids)[:1]
        if not ends:
            raise _refused("it has no token that ends a text, and none for the byte 0xFF")
    begin = next(iter(tokenizer.prefix), ends[0] if tokenizer.begin is None else tokenizer.begin)
    return begin, ends[:3]


def _chat_template(files: Mapping[str, bytes]) -> str | None:
    """Return the chat template among a tokenizer's files: that in a file of its own, or else the default."""
    if own := files.get("chat_template.jinja"):
        return own.decode("utf-8", "replace")
    found = json.loads(files.get("tokenizer_config.json", b"{}")).get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None

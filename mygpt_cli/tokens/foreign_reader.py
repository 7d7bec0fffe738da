"""Vocabularies that Hugging Face's `tokenizers` runs: what they are made of is checked, and written anew.

The library gets nothing from a file but names, numbers and patterns in the few components listed here, all of
which keep the text. https://huggingface.co/docs/tokenizers/components
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mygpt_cli.tokens.added_tokens import Added
from mygpt_cli.tokens.json_parts import damaged, flag, get, steps_of, type_of, unsupported
from mygpt_cli.tokens.patterns import KNOWN
from mygpt_cli.tokens.template import read_template, write_template
from mygpt_cli.tokens.tokenizer_json import ForeignVocabulary, bytes_of_alphabet, spelled_bytes
from mygpt_cli.tokens.vocabulary_reader import check_vocab, read_added_entries, read_merges

MAX_PATTERN = 4096  # characters
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
BEHAVIORS = ("Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")  # all but the one that removes
SPACE = "▁"  # U+2581, which stands for a space
BYTE = re.compile("<0x([0-9A-F]{2})>")
# What turns tokens of characters into text, in the orders in which that gives the bytes of every token.
DECODERS = (
    ["Replace", "ByteFallback", "Fuse", "Strip"],
    ["Replace", "ByteFallback", "Fuse"],
    ["Replace", "Fuse", "Strip"],
    ["Replace", "Fuse"],
    ["Replace"],
    ["Metaspace"],
    ["ByteFallback", "Metaspace"],
    ["ByteFallback", "Metaspace", "Fuse"],
)
Part = dict[str, Any]


def read_foreign(path: Path, root: Mapping[str, Any]) -> ForeignVocabulary:
    """Read a tokenizer.json of byte pairs: byte-level, or of characters and bytes for those it does not know.

    Raises CheckpointError for what is damaged, UnsupportedError for other kinds.
    """
    root = dict(root)
    model = get(path, root, "model", dict)
    if model.get("type", "BPE") != "BPE":
        raise unsupported(path, f"a model of type {model['type']!r:.60}")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise unsupported(path, f"'{key}'")
    steps = steps_of(path, root.get("pre_tokenizer"), "pretokenizers")
    byte_level = any(type_of(step) == "ByteLevel" for step in steps)
    return (_ByteLevel if byte_level else _SentencePiece)(path, root, model, steps).read()


class _Kind:
    """What both kinds have: a vocabulary, merges, added tokens and a template."""

    def __init__(self, path: Path, root: Part, model: Part, steps: list[Any]) -> None:
        self.path, self.root, self.model, self.steps = path, root, dict(model), steps
        self.normalizers = steps_of(path, root.get("normalizer"), "normalizers")
        self.decoders = steps_of(path, root.get("decoder"), "decoders")
        self.template = read_template(path, root.get("post_processor"))

    def read_tokens(self) -> None:
        """Read the tokens, once it is known that all components are supported."""
        path, model = self.path, self.model
        self.vocab = check_vocab(path, get(path, model, "vocab", dict))
        self.entries = read_added_entries(path, self.root)
        self.merges = read_merges(path, get(path, model, "merges", list))
        for left, right in self.merges:
            if not all(token in self.vocab for token in (left, right, left + right)):
                raise damaged(path, f"merges {left!r:.60} and {right!r:.60}, which are not all tokens")
        names = {token: name for name, token in self.vocab.items()}
        for entry in self.entries:
            if names.setdefault(entry["id"], entry["content"]) != entry["content"] or (
                self.vocab.get(entry["content"], entry["id"]) != entry["id"]
            ):
                raise damaged(
                    path, f"gives the added token {entry['content']!r:.60} an id that is not its own"
                )
        for name, token in (*self.template.before, *self.template.after):
            if names.get(token) != name:
                raise damaged(path, f"puts {name!r:.60} around a text, which is not its token {token}")

    def text(self, normalizers: list[Part], pre_tokenizers: list[Part], decoders: list[Part]) -> str:
        """Return a tokenizer.json of these components."""
        more = {name: flag(self.path, self.model, name) for name in ("byte_fallback", "fuse_unk")}
        unknown = self.model.get("unk_token")
        if unknown is not None and not (isinstance(unknown, str) and unknown in self.vocab):
            raise damaged(self.path, f"has {unknown!r:.100} for what is unknown, which is no token")
        return json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": sorted(self.entries, key=lambda entry: int(entry["id"])),
                "normalizer": _sequence(normalizers, "normalizers"),
                "pre_tokenizer": _sequence(pre_tokenizers, "pretokenizers"),
                "post_processor": write_template(self.template),
                "decoder": _sequence(decoders, "decoders"),
                "model": {
                    "type": "BPE",
                    "dropout": None,
                    "unk_token": unknown,
                    "continuing_subword_prefix": None,
                    "end_of_word_suffix": None,
                    **more,
                    "ignore_merges": flag(self.path, self.model, "ignore_merges"),
                    "vocab": self.vocab,
                    "merges": [list(pair) for pair in self.merges],
                },
            },
            ensure_ascii=False,
        )

    def vocabulary(self, text: str, inner: str, tokens: dict[int, bytes], **more: Any) -> ForeignVocabulary:
        """Return what was read."""
        specials = {entry["content"]: entry["id"] for entry in self.entries if entry["special"]}
        added = {
            entry["content"]: Added(entry["id"], entry["normalized"])
            for entry in self.entries
            if not entry["special"]
        }
        return ForeignVocabulary(
            text, inner, tokens, specials=specials, added=added, template=self.template, **more
        )

    def ordinary(self) -> dict[str, int]:
        """Return the tokens that were not added."""
        added = {entry["content"] for entry in self.entries}
        return {name: token for name, token in self.vocab.items() if name not in added}

    def spaces_matter(self) -> bool:
        """Whether an added token may reach over a space, so that a text cannot be cut there."""
        return any(
            entry["lstrip"]
            or entry["rstrip"]
            or any(
                character.isspace() or character == SPACE
                for character in unicodedata.normalize("NFKD", entry["content"])
            )
            for entry in self.entries
            if not entry["special"]
        )


class _ByteLevel(_Kind):
    """Byte pairs of the byte alphabet, after any splits."""

    def read(self) -> ForeignVocabulary:
        path = self.path
        for step in self.normalizers:
            if type_of(step) not in FORMS:
                raise unsupported(path, f"a normalizer of type {type_of(step)!r:.60}")
        normalizers = [{"type": step["type"]} for step in self.normalizers]
        steps = [self._step(step) for step in self.steps]
        kinds = [step["type"] for step in steps]
        if kinds.count("ByteLevel") != 1:
            raise unsupported(path, "a pre-tokenizer with several byte levels")
        if [type_of(step) for step in self.decoders] != ["ByteLevel"]:
            raise unsupported(path, f"a decoder of type {type_of(self.root.get('decoder'))!r:.60}")
        self.read_tokens()
        if not all(character in self.vocab for character in bytes_of_alphabet()):
            raise damaged(path, "lacks one of the 256 single bytes")
        self.model |= {"byte_fallback": False, "unk_token": None}  # with all bytes, nothing is unknown
        text = self.text(normalizers, steps, [{"type": "ByteLevel", **_BYTE_LEVEL}])
        tokens = {}
        for name, token in self.ordinary().items():
            tokens[token] = spelled_bytes(name)
        ranks = {data: token for token, data in tokens.items()}
        return self.vocabulary(
            text,
            text,
            tokens,
            ranks=ranks if self._in_order() and len(ranks) == len(tokens) else {},
            spaces=False,
            strips="nothing",
            cut="words" if self._splits_at_words(steps) and not self.spaces_matter() else "nowhere",
        )

    def _step(self, step: Any) -> Part:
        path, kind = self.path, type_of(step)
        if kind == "ByteLevel":
            if step.get("add_prefix_space") is not False:
                raise unsupported(path, "a pre-tokenizer that puts a space in front of the text")
            return {"type": kind, **_BYTE_LEVEL, "use_regex": flag(path, step, "use_regex", True)}
        if kind == "Digits":
            return {"type": kind, "individual_digits": flag(path, step, "individual_digits")}
        if kind == "Punctuation":
            return {"type": kind, "behavior": _behavior(path, step)}
        if kind == "Split":
            return {
                "type": kind,
                "pattern": _pattern(path, step),
                "behavior": _behavior(path, step),
                "invert": flag(path, step, "invert"),
            }
        raise unsupported(path, f"a pre-tokenizer of type {kind!r:.60}")

    def _splits_at_words(self, steps: list[Part]) -> bool:
        """Whether the text is split wherever `safe_cut` may cut it, and each side by itself."""
        splits, levelled = False, False
        for step in steps:
            if step["type"] == "Split":
                if levelled or step["invert"] or step["behavior"] != "Isolated":
                    return False
                if step["pattern"].get("Regex") not in KNOWN:
                    return False
                splits = True
            elif step["type"] == "ByteLevel":
                splits, levelled = splits or step["use_regex"], True
        return splits

    def _in_order(self) -> bool:
        made = [self.vocab[left + right] for left, right in self.merges]
        return made == sorted(made)


class _SentencePiece(_Kind):
    """Pairs of characters, with spaces as a character of their own and bytes for what is unknown."""

    def read(self) -> ForeignVocabulary:
        path = self.path
        normalizers = [self._normalizer(step) for step in self.normalizers]
        steps = [self._step(step) for step in self.steps]
        kinds = [step["type"] for step in (*normalizers, *steps)]
        if len(set(kinds)) != len(kinds) or not {"Replace", "Metaspace"} & set(kinds):
            found = type_of(self.root.get("pre_tokenizer"))
            raise unsupported(path, f"a pre-tokenizer of type {found!r:.60} over characters")
        decoders = [self._decoder(step) for step in self.decoders]
        decoded = [step["type"] for step in decoders]
        if decoded not in DECODERS:
            raise unsupported(path, f"a decoder of {' and '.join(map(repr, decoded))}")
        fallback = flag(path, self.model, "byte_fallback")
        if fallback != ("ByteFallback" in decoded):
            raise unsupported(path, "a decoder that does not make bytes of what is unknown")
        self.read_tokens()
        if SPACE not in self.vocab:
            raise damaged(path, f"lacks the token '{SPACE}', which stands for a space")
        every_byte = fallback and all(f"<0x{byte:02X}>" in self.vocab for byte in range(256))
        if not every_byte and self.model.get("unk_token") is None:
            raise damaged(path, "lacks one of the 256 bytes, and a token for what is unknown")
        tokens = {token: _piece(name, fallback) for name, token in self.vocab.items()}
        everywhere = "Prepend" in kinds or any(step.get("prepend_scheme") == "always" for step in steps)
        return self.vocabulary(
            self.text(normalizers, steps, decoders),
            self.text(
                [step for step in normalizers if step["type"] != "Prepend"],
                [step | {"prepend_scheme": "never"} for step in steps],
                decoders,
            ),
            tokens,
            ranks={},
            spaces=True,
            strips=_strips(decoders),
            cut="spaces" if self._splits_at_spaces(steps, everywhere) else "nowhere",
        )

    def _normalizer(self, step: Any) -> Part:
        match step:
            case {"type": "Prepend", "prepend": "▁"}:
                return {"type": "Prepend", "prepend": SPACE}
            case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
                return {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
        if type_of(step) in FORMS:
            return {"type": step["type"]}
        raise unsupported(
            self.path, f"a normalizer of type {type_of(step)!r:.60}, or another one of that type,"
        )

    def _step(self, step: Any) -> Part:
        if type_of(step) != "Metaspace":
            raise unsupported(self.path, f"a pre-tokenizer of type {type_of(step)!r:.60} over characters")
        return self._metaspace(step) | {"split": flag(self.path, step, "split", True)}

    def _metaspace(self, step: Part) -> Part:
        space = flag(self.path, step, "add_prefix_space", True)
        scheme = step.get("prepend_scheme", "always" if space else "never")
        if step.get("replacement") != SPACE or scheme not in ("always", "first", "never"):
            raise unsupported(self.path, "a space of another kind")
        return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme}

    def _decoder(self, step: Any) -> Part:
        match step:
            case {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}:
                return {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
            case {"type": "ByteFallback" | "Fuse" as kind}:
                return {"type": kind}
            case {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
                return {"type": "Strip", "content": " ", "start": 1, "stop": 0}
            case {"type": "Metaspace"}:
                return self._metaspace(step)
        raise unsupported(self.path, f"a decoder of type {type_of(step)!r:.60}, or another one of that type,")

    def _splits_at_spaces(self, steps: list[Part], everywhere: bool) -> bool:
        """Whether a text can be cut before any space that follows something else.

        It can where no token holds a space after something else, since then no merge reaches over that place,
        or where the text is split there. Where a space is put in front of all that follows an added token,
        what goes on after a cut is not the same.
        """
        ordinary = [entry for entry in self.entries if not entry["special"]]
        if self.spaces_matter() or (everywhere and ordinary):
            return False
        if any(step["split"] for step in steps):
            return True
        return not any(re.search(f"[^{SPACE}]{SPACE}", name) for name in self.vocab)


_BYTE_LEVEL: Part = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _sequence(steps: list[Part], key: str) -> Part | None:
    if len(steps) < 2:
        return steps[0] if steps else None
    return {"type": "Sequence", key: steps}


def _behavior(path: Path, step: Part) -> Literal["Isolated"] | str:
    behavior = step.get("behavior", "Isolated")
    if behavior not in BEHAVIORS:
        raise unsupported(path, f"a split of behavior {behavior!r:.100}")
    return str(behavior)


def _pattern(path: Path, step: Part) -> Part:
    match step.get("pattern"):
        case {"Regex": str(pattern)}:
            kind = "Regex"
        case {"String": str(pattern)}:
            kind = "String"
        case _:
            raise damaged(path, "has a split without a pattern")
    if not pattern or len(pattern) > MAX_PATTERN or "\x00" in pattern:
        raise damaged(path, f"has a splitting pattern that is empty or longer than {MAX_PATTERN} characters")
    return {kind: pattern}


def _strips(decoders: list[Part]) -> Literal["nothing", "a space", "spaces of a token"]:
    for step in decoders:
        if step["type"] == "Strip":
            return "a space"
        if step["type"] == "Metaspace" and step["prepend_scheme"] != "never":
            return "spaces of a token"
    return "nothing"


def _piece(name: str, fallback: bool) -> bytes:
    if fallback and (match := BYTE.fullmatch(name)):
        return bytes.fromhex(match[1])
    return name.replace(SPACE, " ").encode("utf-8", "replace")

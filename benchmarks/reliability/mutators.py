"""Hostile changes: to JSON, to safetensors, to an index of weights, to tokenizers, and to any bytes.

The same generator gives the same changes.
"""

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

from mygpt_cli.checkpoints import layout
from mygpt_cli.checkpoints.hub import CONFIG


class Pairs(list[Any]):
    """A JSON object that may have a key twice."""


EVIL: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, -(2**31), 2**31 - 1, 2**31, 2**53, 2**63, 2**64, 10**30, 10**400, 0.5),
    *(
        -0.0,
        1e308,
        -1e308,
        5e-324,
        float("nan"),
        float("inf"),
        -float("inf"),
        10**18,
        65536,
        262144,
        1_000_000,
    ),
    *(
        "",
        "a",
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "a/b",
        "C:\\x",
        "\x00",
        "\x1b[31m",
        "\u202e",
        "\ud800",
    ),
    *("é" * 300, "x" * 200_000, "(a+)+$" * 50, "(?=\\w{200})" * 300, "(" * 4000, "\\p{L}{900}" * 300, "[["),
    *("gpt2", "llama", "BPE", "F8_E4M3", "I64", "BOOL", "__proto__", "__metadata__", "{}", "%s%n", "[bold]x"),
    *([], [0], [[]], [0, 0], [1] * 50_000, [2**62, 4], [-1, -1], [0] * 100, {}, {"a": 1}, [None], ["a", "b"]),
]


def parsed(raw: bytes) -> Any:
    """Return JSON with its objects as pairs."""
    return json.loads(raw, object_pairs_hook=Pairs)


def dumped(value: Any) -> str:
    """Write JSON as it is, with double keys and numbers that are none."""
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {dumped(part)}" for key, part in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dumped, value)) + "]"
    return json.dumps(value)


def places(value: Any) -> list[tuple[Any, int]]:
    """Return every place in a document: a container and an index in it; large containers give a few."""
    found, left = [], [value]
    while left:
        holder = left.pop()
        for index, part in list(enumerate(holder))[:: max(1, len(holder) // 60)]:
            found.append((holder, index))
            inner = part[1] if isinstance(holder, Pairs) else part
            if isinstance(inner, list):
                left.append(inner)
    return found


def change(document: Any, rng: random.Random) -> None:
    """Change one place of a document."""
    holder, index = rng.choice(places(document) or [(document, 0)])
    if not holder:
        holder.append(("a", 1) if isinstance(holder, Pairs) else 1)
        return
    is_object = isinstance(holder, Pairs)
    key, value = holder[index] if is_object else ("", holder[index])

    def put(new: Any) -> None:
        holder[index] = (key, new) if is_object else new

    how = rng.randrange(9)
    if how == 0:
        del holder[index]
    elif how == 1:
        holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[index]))
    elif how == 2 and is_object:
        holder[index] = (rng.choice([e for e in EVIL if isinstance(e, str)]), value)
    elif how == 3:
        deep: Any = value
        for _ in range(rng.choice((1, 3, 50, 900, 1500))):
            deep = [deep] if rng.random() < 0.5 else Pairs([("a", deep)])
        put(deep)
    elif how == 4 and type(value) is int:
        put(value + rng.choice((-1, 1, 2, -8, 8, 2**20, 2**31, 2**40, -2 * value)))
    elif how == 5:
        other, at = rng.choice(places(document))
        if at < len(other):
            part = copy.deepcopy(other[at])  # or it might come to hold itself
            put(part[1] if isinstance(other, Pairs) else part)
    elif how == 6 and isinstance(value, str):
        put(value + rng.choice(("\x00", "\ud800", "../", "😀", "x" * 10_000, " ")))
    else:
        new = copy.deepcopy(rng.choice(EVIL))
        put(Pairs(new.items()) if isinstance(new, dict) else new)


def mutated_json(raw: bytes, rng: random.Random) -> bytes:
    """Change a JSON file in a few places, or as a text."""
    if rng.random() < 0.15:
        return mutated_bytes(raw, rng)
    document = parsed(raw)
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            change(document, rng)
        return dumped(document).encode("utf-8", "surrogatepass")
    except RecursionError:  # nested into itself
        return b'{"a":' * 50_000


def mutated_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Change a file as bytes."""
    at = rng.randrange(len(raw))
    return rng.choice(
        (
            lambda: raw[:at],
            lambda: raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :],
            lambda: raw[:at] + raw[at : at + 64] + raw[at:],
            lambda: raw + rng.choice((b" ", b"\x00" * 4096, raw)),
            lambda: (
                rng.choice((b"\xef\xbb\xbf", b"[" * 100_000, b'{"a":' * 100_000, b"\x80\x04", b"PK\x03\x04"))
                + raw
            ),
            lambda: b"",
        )
    )()


def mutated_tensors(raw: bytes, rng: random.Random, *, numbers: bool = True) -> bytes:
    """Change the header of a safetensors file, its length, or its numbers."""
    length = int.from_bytes(raw[:8], "little")
    header, body = raw[8 : 8 + length], raw[8 + length :]
    how = rng.random()
    if how < 0.1:
        lie = rng.choice((0, 1, length - 1, length + 1, length + len(body), 10**8, 2**40, 2**63, 2**64 - 1))
        return lie.to_bytes(8, "little") + header + body
    if how < 0.2 and numbers:
        body = rng.choice((b"", body[:-4], body + b"\x00" * 8, b"\xff" * len(body), body[::-1]))
    elif how < 0.5:  # a tensor with other offsets, shape or type, consistent with nothing
        document = parsed(header)
        named = [entry for entry in document if entry[0] != "__metadata__"]
        _, entry = rng.choice(named)
        number = rng.choice((0, 1, 3, 8, 2**20, 2**31, 2**32, 2**61, 2**63, 2**64, -1))
        part = rng.choice(("data_offsets", "shape", "dtype"))
        for index, (key, value) in enumerate(entry):
            if key == part and part == "dtype":
                entry[index] = (
                    key,
                    rng.choice(("F64", "F16", "BF16", "I32", "F8_E5M2", "BOOL", "F4", "C64", "U64")),
                )
            elif key == part:
                value[rng.randrange(len(value))] = number
                if rng.random() < 0.3:
                    value.insert(0, number)
        header = dumped(document).encode("utf-8", "surrogatepass")
    else:
        header = mutated_json(header, rng)
    if rng.random() < 0.3:
        header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def replaced(path: Path, rng: random.Random) -> str:
    """Put something in the place of a file that is none; return what."""
    what = rng.choice(
        ("link", "link inside", "device", "endless", "circle", "pipe", "folder", "sparse", "none")
    )
    raw = path.read_bytes()
    path.unlink()
    if what == "link":
        path.symlink_to("/etc/passwd")
    elif what == "link inside":
        path.with_name("other").write_bytes(raw)
        path.symlink_to("other")
    elif what in ("device", "endless"):
        path.symlink_to("/dev/null" if what == "device" else "/dev/zero")
    elif what == "circle":
        path.symlink_to(path.name)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "sparse":
        path.write_bytes(raw)
        os.truncate(path, 2**40)
    return what


def mutated_index(raw: bytes, rng: random.Random) -> bytes:
    """Change an index: as JSON, or in what it says of a file."""
    if rng.random() < 0.5:
        return mutated_json(raw, rng)
    index = json.loads(raw)
    names = index["weight_map"]
    name, other = rng.sample(sorted(names), 2)
    names[name] = rng.choice(
        (
            names[other],
            f"../best/{names[name]}",
            f"{rng.choice(('/', './', 'C:', '~'))}{names[name]}",
            layout.OPTIMIZER,
            CONFIG,
            *(evil for evil in EVIL if isinstance(evil, str)),
        )
    )
    if rng.random() < 0.3:
        names |= {
            f"x{n}": rng.choice((f"{n}.safetensors", names[other])) for n in range(rng.choice((1, 99, 9999)))
        }
    if rng.random() < 0.3:
        del names[other]
    return json.dumps(index).encode("utf-8", "surrogatepass")


# What the `tokenizers` library has, in and out of place, and patterns that are slow, empty or broken.
PATTERNS = (
    *(
        "(a+)+$",
        "(\\s*)*x",
        "(?:a|aa)+b",
        "(.*)*\\d",
        "\\s+(?!\\S)",
        "(?i:'s)|\\p{L}+",
        ".",
        "",
        "^",
        "$",
        "\\b",
    ),
    *(
        "(?=.)",
        "[",
        "(?<=a{1,99})b",
        "\\p{Nope}",
        "\\X",
        "(a)\\1",
        "\\p{L}{1,900}",
        "[\\r\\n]",
        "x" * 5000,
        "(?s:.)*",
    ),
)
SPACE = "\u2581"
COMPONENTS: dict[str, tuple[Any, ...]] = {
    "normalizer": (
        *({"type": name} for name in ("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents")),
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Prepend", "prepend": "x" * 99},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "aa"},
        {"type": "Replace", "pattern": {"String": ""}, "content": "a"},
        {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
    ),
    "pre_tokenizer": (
        *({"type": name} for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts")),
        *({"type": "Digits", "individual_digits": one} for one in (True, False)),
        *(
            {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True, "use_regex": regex}
            for space in (True, False)
            for regex in (True, False)
        ),
        *(
            {"type": "Metaspace", "replacement": mark, "prepend_scheme": scheme, "split": split}
            for mark in (SPACE, "_", "")
            for scheme in ("always", "first", "never", "often")
            for split in (True, False)
        ),
        *(
            {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}
            for pattern in PATTERNS
            for kind in ("Regex", "String")
            for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous")
            for invert in (True, False)
        ),
        *(
            {"type": "Punctuation", "behavior": behavior}
            for behavior in ("Removed", "Isolated", "Contiguous")
        ),
        {"type": "CharDelimiterSplit", "delimiter": "a"},
        {"type": "FixedLength", "length": 0},
    ),
    "decoder": (
        *({"type": name} for name in ("ByteLevel", "ByteFallback", "Fuse", "BPEDecoder", "WordPiece", "CTC")),
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        {"type": "Strip", "content": "a", "start": 2**40, "stop": 3},
        {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": True},
    ),
    "post_processor": (
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False},
        {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]},
        {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]},
        *(
            {
                "type": "TemplateProcessing",
                "single": single,
                "pair": [],
                "special_tokens": {"a": {"id": "a", "ids": ids, "tokens": ["a"] * len(ids)}},
            }
            for single in (
                [],
                [{"Sequence": {"id": "A", "type_id": 0}}],
                [{"Sequence": {"id": "B", "type_id": 0}}],
                [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}] * 2,
                [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            )
            for ids in ([], [0], [2**31], [-1], [300] * 40)
        ),
    ),
}
STEPS = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "decoder": "decoders",
    "post_processor": "processors",
}


def mutated_tokenizer(raw: bytes, rng: random.Random) -> bytes:
    """Change a tokenizer.json: as JSON, in its components, in its added tokens, or in its merges."""
    if rng.random() < 0.35:
        return mutated_json(raw, rng)
    root = json.loads(raw)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice((_change_components, _change_components, _change_added, _change_model))(root, rng)
    return json.dumps(root).encode("utf-8", "surrogatepass")


def _change_components(root: dict[str, Any], rng: random.Random) -> None:
    """Take a component out of its place, put another there, or put it elsewhere."""
    place = rng.choice(list(STEPS))
    key, there = STEPS[place], root.get(place)
    steps = list(there[key]) if isinstance(there, dict) and key in there else [there] if there else []
    kind = place if rng.random() < 0.9 else rng.choice(list(STEPS))
    new = copy.deepcopy(rng.choice(COMPONENTS[kind]))
    how = rng.randrange(6)
    if how == 0 and steps:
        del steps[rng.randrange(len(steps))]
    elif how == 1 and steps:
        steps[rng.randrange(len(steps))] = new
    elif how == 2:
        rng.shuffle(steps)
    elif how == 3:
        steps = steps * rng.choice((2, 30, 3000))
    elif how == 4:
        steps = [{"type": "Sequence", key: steps}]
    else:
        steps.insert(rng.randrange(len(steps) + 1), new)
    root[place] = {"type": "Sequence", key: steps} if len(steps) != 1 or rng.random() < 0.3 else steps[0]


def _change_added(root: dict[str, Any], rng: random.Random) -> None:
    """Change an added token, or add one, in ways that are allowed or not."""
    entries = root.setdefault("added_tokens", [])
    if not isinstance(entries, list):
        return
    vocab = list(root["model"]["vocab"].items())
    name, token = rng.choice(vocab)
    text = rng.choice(
        ("the", " ", "a", "\u0301", "é", SPACE, "<0x41>", "x" * 5000, name, "\x00", "ﬁ", "\n", "cat sat")
    )
    number = rng.choice((token, len(vocab), len(vocab) + 1, 2**20 - 1, 2**20, 2**32, -1, 0, 1.0, "1", None))
    flags = {
        flag: rng.random() < 0.3 for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")
    }
    entry = {"id": number, "content": text, **flags}
    if entries and rng.random() < 0.5:
        old = rng.choice(entries)
        old |= {key: entry[key] for key in rng.sample(list(entry), rng.randrange(1, 3))}
    else:
        # What is large because it has so much in it may take its time.
        count = rng.choice((1, 1, 1, 3000 if len(text) < 100 else 30))
        entries.extend({**entry, "content": f"{text}{n or ''}"} for n in range(count))


def _change_model(root: dict[str, Any], rng: random.Random) -> None:
    """Change merges, tokens and switches of the model, in ways that are allowed or not."""
    model = root["model"]
    vocab, merges = model["vocab"], model["merges"]
    names = list(vocab)
    one, other = rng.choice(names), rng.choice(names)
    how = rng.randrange(9)
    if how == 0:
        rng.shuffle(merges)
    elif how == 1:
        del merges[rng.randrange(len(merges) + 1) :]
    elif how == 2:
        merges.insert(
            rng.randrange(len(merges) + 1), rng.choice(([one, other], f"{one} {other}", [one], [one, ""]))
        )
    elif how == 3:
        vocab[one], vocab[other] = vocab[other], vocab[one]
    elif how == 4:
        vocab[rng.choice(("\u0301", "", "x" * 9000, f"{one}{other}", "<0x00>", "\ud800", "a b"))] = len(vocab)
    elif how == 5:
        vocab[one] = rng.choice((vocab[other], len(vocab) + 99, 2**20, 2**32 + 5, -1, 1e3))
    elif how == 6:
        vocab.pop(one)
    elif how == 7:
        model |= {rng.choice(("unk_token", "continuing_subword_prefix", "end_of_word_suffix")): one}
    else:
        switch = rng.choice(("byte_fallback", "fuse_unk", "ignore_merges", "dropout"))
        model[switch] = rng.choice((True, False, None, 0.5, 2))
    if rng.random() < 0.1:
        model["type"] = rng.choice(("Unigram", "WordPiece", "WordLevel", "BPE", None))


def mutated_lines(raw: bytes, rng: random.Random) -> bytes:
    """Change a text whose lines count."""
    lines = raw.split(b"\n")
    at = rng.randrange(len(lines))
    how = rng.randrange(6)
    if how == 0:
        return mutated_bytes(raw, rng)
    if how == 1:
        rng.shuffle(lines)
    elif how == 2:
        lines[at] = rng.choice(
            (b"", b" ", b"a", b"a b c", b"\xff b", b"#version: 9", b"a\x00 b", b"  ", b"x" * 10**6)
        )
    elif how == 3:
        lines[at:at] = [rng.choice(lines)] * rng.choice((1, 9, 100_000))
    elif how == 4:
        del lines[at : at + rng.choice((1, 9, 999))]
    else:
        return rng.choice((b"\r\n", b"\r", b"\x85", b" \n")).join(lines)
    return b"\n".join(lines)

"""What of a tokenizer.json reaches the library, and what hostile files come to."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from benchmarks.reliability.mutators import mutated_json, mutated_tokenizer
from mygpt_cli.base.errors import CheckpointError, MygptError
from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.tokenizer import ModelIds, is_panic
from tests.helpers.foreign_tokenizers import KINDS
from tests.helpers.rules import of_newer_transformers
from tests.helpers.tokenizer_files import Change, set_at

TRIED = ("smollm2", "qwen2", "llama 2", "metaspace with added tokens", "several splits", "llama 3")
CHANGED = (
    "the cat sat on a mat",
    "  a1 22 1234 flat\r\n\n é😀 foo() b▁flat",
    "cafe\u0301 ﬁ Å １",
    "a\x00b 中文",
)
PATTERN = ("pre_tokenizer", "pretokenizers", 1, "pattern")
DAMAGE: list[tuple[str, str, Change, str]] = [
    ("llama 2", "Unigram", set_at("model", "type", "Unigram"), "a model of type 'Unigram'"),
    ("llama 2", "WordPiece", set_at("model", "type", "WordPiece"), "a model of type 'WordPiece'"),
    ("llama 2", "another normalizer", set_at("normalizer", {"type": "Nmt"}), "'Nmt'"),
    ("llama 2", "no normalizer", set_at("normalizer", None), "of type None over characters"),
    ("llama 2", "a strip of two", set_at("decoder", "decoders", 3, "start", 2), "'Strip', or another one"),
    ("llama 2", "a strip too early", lambda r: r["decoder"]["decoders"].reverse(), "a decoder of 'Strip'"),
    ("llama 2", "no decoder", set_at("decoder", None), "a decoder of"),
    ("llama 2", "no fallback", set_at("model", "byte_fallback", False), "does not make bytes"),
    (
        "llama 2",
        "a space of another kind",
        lambda r: r["model"]["vocab"].pop("▁"),
        "not all tokens|lacks the",
    ),
    ("llama 2", "unknown in a list", set_at("model", "unk_token", ["<unk>"]), "for what is unknown"),
    ("llama 2", "a strange template", set_at("post_processor", "single", 0, 5), "something else than a text"),
    ("llama 2", "a template of another", lambda r: r["post_processor"]["special_tokens"].clear(), "does not"),
    ("llama 2", "a gap", lambda r: r["added_tokens"].append({"id": 999, "content": "zoo"}), r"\d+ is next"),
    ("llama 2", "an id of another", set_at("added_tokens", 1, "id", 300), "not its own|one id"),
    ("smollm2", "a missing byte", lambda r: r["model"]["vocab"].pop("Ā"), "256 single bytes|not all tokens"),
    ("several splits", "no pattern", set_at(*PATTERN, {"Regex": ""}), "empty or longer"),
    ("several splits", "a long one", set_at(*PATTERN, {"Regex": "a" * 9999}), "empty or longer"),
    ("several splits", "a broken one", set_at(*PATTERN, {"Regex": "[["}), "unusable"),
    ("several splits", "one that explodes", set_at(*PATTERN, {"Regex": "(a+)+$" * 50}), "unusable|too long"),
    ("several splits", "a slow one", set_at(*PATTERN, {"Regex": "a{99999}"}), "takes too long"),
    ("several splits", "a list", set_at(*PATTERN, {"Regex": ["a"]}), "without a pattern"),
    (
        "several splits",
        "it removes",
        set_at("pre_tokenizer", "pretokenizers", 1, "behavior", "Removed"),
        "Rem",
    ),
    (
        "several splits",
        "many",
        lambda r: r["pre_tokenizer"]["pretokenizers"].extend([{}] * 99),
        "more than 64",
    ),
]


@pytest.mark.parametrize(("kind", "what", "change", "words"), DAMAGE, ids=[f"{d[0]}: {d[1]}" for d in DAMAGE])
def test_damaged_and_unsupported_files_are_named(
    tmp_path: Path, kind: str, what: str, change: Change, words: str
) -> None:
    KINDS[kind](tmp_path)
    path = tmp_path / "tokenizer.json"
    root = json.loads(path.read_text(encoding="utf-8"))
    change(root)
    path.write_text(json.dumps(root), encoding="utf-8")
    with pytest.raises(CheckpointError, match=words) as caught:
        load_tokenizer(tmp_path)
    assert len(caught.value.message) < 600


def test_nothing_is_written_of_where_the_library_panicked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    KINDS["several splits"](tmp_path)
    path = tmp_path / "tokenizer.json"
    root = json.loads(path.read_text(encoding="utf-8"))
    set_at(*PATTERN, {"Regex": "(?:a|aa)+b"})(root)
    path.write_text(json.dumps(root), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"unusable|too long"):
        load_tokenizer(tmp_path)
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


def test_a_sentencepiece_file_alone_is_refused_with_what_helps(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0e")
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json, only tokenizer\.model") as caught:
        load_tokenizer(tmp_path)
    assert "save_pretrained" in caught.value.hint


def test_no_mutation_does_harm(tmp_path: Path) -> None:
    """A few of the trials of `benchmarks.reliability.mutations`, over the kinds that the library runs."""
    good: dict[str, dict[str, bytes]] = {}
    for kind in TRIED:
        KINDS[kind](tmp_path / kind)
        names = ("tokenizer.json", "tokenizer_config.json")
        good[kind] = {name: (tmp_path / kind / name).read_bytes() for name in names}
    outcomes: dict[str, int] = {}
    for number in range(250):
        rng = random.Random(number)
        kind = rng.choice(TRIED)
        name = "tokenizer.json" if rng.random() < 0.9 else "tokenizer_config.json"
        for other, raw in good[kind].items():
            (tmp_path / kind / other).write_bytes(mutated_json(raw, rng) if other == name else raw)
        outcome = opened(tmp_path / kind)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes.keys() == {"opened", "refused"}
    assert min(outcomes.values()) > 12


def opened(folder: Path) -> str:
    try:
        tokenizer = load_tokenizer(folder, ids=ModelIds(4000, None, ()), carry=True)
        for text in ("the cat", "  a1 22\n\u0301é😀 <s> flat"):
            ids = tokenizer.encode(text)
            tokenizer.decode(ids)
            assert all(0 <= token < 4000 for token in ids)
    except MygptError as error:
        assert isinstance(error, CheckpointError)
        return "refused"
    return "opened"


def test_the_library_gets_nothing_but_what_was_checked(tmp_path: Path) -> None:
    KINDS["qwen2 of another class"](tmp_path)
    path = tmp_path / "tokenizer.json"
    root: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    root |= {"truncation": {"max_length": 3}, "padding": {"strategy": "BatchLongest"}, "more": [1]}
    root["pre_tokenizer"]["pretokenizers"][0]["more"] = "x"
    path.write_text(json.dumps(root), encoding="utf-8")
    written = json.loads(load_tokenizer(tmp_path).to_json())
    assert (written["truncation"], written["padding"]) == (None, None)
    assert "more" not in json.dumps(written["pre_tokenizer"])
    assert "more" not in written


@of_newer_transformers
@pytest.mark.parametrize("kind", TRIED)
def test_what_opens_after_a_change_has_the_ids_of_transformers(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path)
    path = tmp_path / "tokenizer.json"
    raw, compared = path.read_bytes(), 0
    for number in range(60):
        path.write_bytes(mutated_tokenizer(raw, random.Random(f"{kind}, {number}")))
        try:
            ours = load_tokenizer(tmp_path, ids=ModelIds(1 << 20, None, ()))
        except CheckpointError:
            continue
        try:
            theirs = AutoTokenizer.from_pretrained(tmp_path)
        except BaseException as fault:  # what transformers does not open, or the library panics at
            assert isinstance(fault, Exception) or is_panic(fault)
            continue
        for text in CHANGED:
            found = theirs(text, split_special_tokens=True)["input_ids"]
            assert [*ours.prefix, *ours.encode(text), *ours.suffix] == found, (number, text)
        compared += 1
    assert compared > 3


@pytest.mark.parametrize("kind", ["llama 2", "smollm2"])
def test_a_special_token_of_one_character_is_ordinary_text(kind: str, tmp_path: Path) -> None:
    """It is none of the merged vocabulary, which would give its id to the character."""
    KINDS[kind](tmp_path)
    before = load_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    root = json.loads(path.read_text(encoding="utf-8"))
    root["added_tokens"].append({"id": before.own_size, "content": "中", "special": True})
    path.write_text(json.dumps(root), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.own_size == before.own_size + 1
    assert tokenizer.encode("a 中 b") == before.encode("a 中 b")


def test_whole_pieces_that_no_merge_makes_are_not_merged(tmp_path: Path) -> None:
    """Those of Llama 3 are looked up whole, and a longer piece is made of what merges there are."""
    KINDS["llama 3"](tmp_path)
    path = tmp_path / "tokenizer.json"
    root = json.loads(path.read_text(encoding="utf-8"))
    root["model"]["merges"] = []
    path.write_text(json.dumps(root), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert len(tokenizer.encode("the")) == 1
    assert len(tokenizer.encode("theme")) == 5

"""Reading tokenizer files, ours and others', and what is refused of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mygpt_cli.base.errors import CheckpointError, MygptError
from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_json import byte_alphabet
from tests.helpers.standins import SAMPLES, corpus_text, learned
from tests.helpers.tokenizer_files import ANY_TEXT, PROSE, Change, characters, save, set_at


@pytest.mark.parametrize("end_of_text", [False, True])
@pytest.mark.parametrize("make", [characters, learned])
def test_load_reads_what_was_written(
    tmp_path: Path, make: Callable[..., Tokenizer], end_of_text: bool
) -> None:
    tokenizer = make(end_of_text=end_of_text)
    again = load_tokenizer(save(tokenizer, tmp_path))
    assert (again.kind, again.vocab_size) == (tokenizer.kind, tokenizer.vocab_size)
    assert again.end_of_text == tokenizer.end_of_text
    assert again.to_json() == tokenizer.to_json()
    for text in SAMPLES:
        assert again.encode(text) == tokenizer.encode(text)


def trained_elsewhere() -> tokenizers.Tokenizer:
    """A GPT-2 style tokenizer made from scratch by Hugging Face's own trainer."""
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    theirs.train_from_iterator([corpus_text()], trainer)
    return theirs


def test_load_reads_a_tokenizer_json_made_elsewhere(tmp_path: Path) -> None:
    theirs = trained_elsewhere()
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    assert ours.end_of_text == theirs.token_to_id("<|endoftext|>") == 0

    @settings(max_examples=200)
    @given(ANY_TEXT | PROSE)
    def check(text: str) -> None:
        assert ours.encode(text) == theirs.encode(text).ids

    check()
    for text in SAMPLES:
        assert ours.encode(text) == theirs.encode(text).ids


def test_load_reads_vocab_json_and_merges_txt(tmp_path: Path) -> None:
    theirs = trained_elsewhere()
    theirs.model.save(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merges.txt", "vocab.json"]
    (tmp_path / "added_tokens.json").write_text('{"<pad>": 900}', encoding="utf-8")
    ours = load_tokenizer(tmp_path)
    assert ours.end_of_text == 0
    assert ours.vocab_size == 901
    assert ours.token_bytes(900) == b"<pad>"
    for text in SAMPLES:
        assert ours.encode(text) == theirs.encode(text).ids


def test_load_reads_what_gpt2_tokenizer_saves(tmp_path: Path) -> None:
    from transformers import GPT2Tokenizer

    model = trained_elsewhere().model
    model.save(str(tmp_path))
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    merges = [
        tuple(line.split(" "))
        for line in (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    ]
    theirs = GPT2Tokenizer(vocab=vocab, merges=merges)
    theirs.save_pretrained(tmp_path / "saved")
    ours = load_tokenizer(tmp_path / "saved")
    for text in SAMPLES:
        assert ours.encode(text) == theirs(text)["input_ids"]


def test_byte_alphabet_is_hugging_faces() -> None:
    assert set(byte_alphabet()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert byte_alphabet()[ord(" ")] == "Ġ"


SPLIT = ("pre_tokenizer", "pretokenizers", 0)
BYTE_LEVEL = ("pre_tokenizer", "pretokenizers", 1)
DAMAGE: list[tuple[str, Change, str]] = [
    ("no model", lambda r: r.pop("model"), "no 'model'"),
    ("model of another type", set_at("model", "type", "WordPiece"), "WordPiece"),
    ("vocab is a list", set_at("model", "vocab", []), "no 'vocab'"),
    ("id is a boolean", set_at("model", "vocab", "a", True), "whole number"),
    ("id is negative", set_at("model", "vocab", "a", -1), "whole number"),
    ("id is huge", set_at("model", "vocab", "a", 1 << 40), "whole number"),
    ("id is a fraction", set_at("model", "vocab", "a", 1.5), "whole number"),
    ("id given twice", set_at("model", "vocab", "a", 98), "one id to two"),
    ("a byte is missing", lambda r: r["model"]["vocab"].pop("\u0100"), "single bytes|not all tokens"),
    ("a token that is no bytes", set_at("model", "vocab", "中", 5000), "'中'"),
    ("an empty token", set_at("model", "vocab", "", 5000), "empty token"),
    ("a merge of three", set_at("model", "merges", 0, ["a", "b", "c"]), "not a pair"),
    ("a merge of numbers", set_at("model", "merges", 0, [1, 2]), "not a pair"),
    ("a merge of strangers", set_at("model", "merges", 0, ["a", "zzzz"]), "not all tokens"),
    ("dropout", set_at("model", "dropout", 0.1), "dropout"),
    ("a prefix", set_at("model", "continuing_subword_prefix", "##"), "continuing_subword_prefix"),
    ("a normalizer", set_at("normalizer", {"type": "Lowercase"}), "Lowercase"),
    (
        "a post-processor that adds a token",
        set_at("post_processor", {"type": "TemplateProcessing"}),
        "no 'single'",
    ),
    (
        "a template of numbers",
        set_at("post_processor", {"type": "TemplateProcessing", "single": [1]}),
        "something else than a text",
    ),
    ("a post-processor", set_at("post_processor", {"type": "RobertaProcessing"}), "RobertaProcessing"),
    ("a pre-tokenizer", set_at("pre_tokenizer", {"type": "Whitespace"}), "Whitespace"),
    ("a pre-tokenizer that is a number", set_at("pre_tokenizer", 3), "pre-tokenizer"),
    ("no pre-tokenizer", set_at("pre_tokenizer", None), "pre-tokenizer"),
    (
        "a third step",
        lambda r: r["pre_tokenizer"]["pretokenizers"].append({"type": "Whitespace"}),
        "Whitespace",
    ),
    ("a space in front", set_at(*BYTE_LEVEL, "add_prefix_space", True), "space in front"),
    ("no pattern", set_at(*SPLIT, "pattern", {}), "without a pattern"),
    ("a split that removes", set_at(*SPLIT, "behavior", "Removed"), "'Removed'"),
    ("a long pattern", set_at(*SPLIT, "pattern", "Regex", "a" * 5000), "longer"),
    ("a broken pattern", set_at(*SPLIT, "pattern", "Regex", "(a"), "unusable"),
    ("another decoder", set_at("decoder", {"type": "Metaspace"}), "Metaspace"),
    ("added tokens are an object", set_at("added_tokens", {}), "added_tokens"),
    ("an added token is a string", set_at("added_tokens", ["x"]), "not an object"),
    ("an added token that strips a number", set_at("added_tokens", 0, "lstrip", 1), "neither true nor"),
    ("an added token without id", set_at("added_tokens", 0, "id", None), "whole number"),
    ("an added token with a letter's id", set_at("added_tokens", 0, "id", 97), "not its own"),
    ("an added token twice", lambda r: r["added_tokens"].append(r["added_tokens"][0]), "twice"),
]


@pytest.mark.parametrize(("change", "words"), [c[1:] for c in DAMAGE], ids=[c[0] for c in DAMAGE])
def test_damaged_and_unsupported_files_are_named(tmp_path: Path, change: Change, words: str) -> None:
    root = json.loads(learned(end_of_text=True).to_json())
    change(root)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(root), encoding="utf-8")
    with pytest.raises(CheckpointError, match=words) as caught:
        load_tokenizer(tmp_path)
    if "unusable" not in words:
        assert str(path) in caught.value.message


CHARACTER_DAMAGE: list[tuple[str, Change]] = [
    ("two characters", set_at("model", "vocab", "ab", 5000)),
    ("a gap", set_at("model", "vocab", "Z", 5000)),
    ("a surrogate", set_at("model", "vocab", "\ud800", 5000)),
    ("a merge", set_at("model", "merges", [["a", "b"]])),
    ("nothing", set_at("model", "vocab", {})),
    ("special token among the characters", set_at("added_tokens", 0, "id", 1)),
]


@pytest.mark.parametrize("change", [c[1] for c in CHARACTER_DAMAGE], ids=[c[0] for c in CHARACTER_DAMAGE])
def test_damaged_characters_are_refused(tmp_path: Path, change: Change) -> None:
    root = json.loads(characters(end_of_text=True).to_json())
    change(root)
    (tmp_path / "tokenizer.json").write_text(json.dumps(root), encoding="utf-8")
    with pytest.raises(CheckpointError):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"model": {}, "model": {}}', "[" * 100_000, '{"a": 1e999}', "\x00"]
)
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError):
        load_tokenizer(tmp_path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_file_breaks_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    )
    tokenizer = data.draw(st.sampled_from([learned(270, end_of_text=True), characters(end_of_text=True)]))
    root: Any = json.loads(tokenizer.to_json())
    holder = root
    while True:
        key = data.draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        if not holder[key] or not isinstance(holder[key], dict | list) or data.draw(st.booleans()):
            break
        holder = holder[key]
    holder[key] = data.draw(values)
    (tmp_path / "tokenizer.json").write_text(json.dumps(root), encoding="utf-8")
    try:
        load_tokenizer(tmp_path).encode("some text")
    except MygptError as fault:
        assert isinstance(fault, CheckpointError)


def test_an_empty_folder_and_broken_merges(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    trained_elsewhere().model.save(str(tmp_path))
    (tmp_path / "merges.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="is not UTF-8"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match="cannot read"):
        load_tokenizer(tmp_path)

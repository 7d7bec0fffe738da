"""Tokenizers as llama.cpp has them."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.checkpoints.gguf_vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    describe,
)
from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.patterns import LLAMA3_PATTERN, QWEN2_PATTERN
from mygpt_cli.tokens.tokenizer import ModelIds
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.helpers.foreign_tokenizers import (
    HARD,
    KINDS,
    byte_level,
    plain_bytes,
    random_strings,
    sentencepiece,
    split,
    write,
)
from tests.helpers.rules import of_newer_transformers
from tests.helpers.standins import corpus_text

# What becomes of each kind of tokenizer: its name in llama.cpp, or why it cannot go.
GOES = {
    "llama 3": "llama-bpe",
    "smollm2": "smollm",
    "smollm2 as its files name it": "gpt-2",  # transformers drops the split of digits
    "qwen2": "qwen2",
    "qwen2 of another class": "qwen2",
    "qwen3": "qwen2",
    "qwen2 in two files": "qwen2",
    "llama 2": "default",
    "llama 2 as its files name it": "default",
    "llama 2, legacy": "default",
    "mistral": "default",
    "metaspace first": "default",
    "metaspace never": "default",
    "metaspace with added tokens": "default",
    "an end after each text": "default",
}
CANNOT = {
    "prepended with added tokens": "token 'flat' would stand for another text",
    "several splits": "splits text by a pattern that is not",
    "digits in threes": "splits text by a pattern that is not",
    "added tokens": "the added token .* matches in a way",
    "metaspace always, split": "splits text at spaces that its tokens hold",
    "sentencepiece without bytes": r"prepares text in another way \(NFKC, Metaspace\)",
}


def test_every_kind_is_decided() -> None:
    assert GOES.keys() | CANNOT.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", GOES)
def test_kinds_that_llama_cpp_has(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    found = describe(tokenizer)
    assert found.pre == GOES[kind]
    assert found.kind == ("llama" if found.pre == "default" else "gpt2")
    assert len(found.tokens) == len(found.types) == tokenizer.vocab_size
    assert [found.token_bytes(i) for i in range(tokenizer.vocab_size)] == [
        tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)
    ]
    assert found.adds_begin == bool(tokenizer.prefix)
    if tokenizer.prefix:
        assert found.begin == tokenizer.prefix[0]


@of_newer_transformers
@pytest.mark.parametrize("kind", CANNOT)
def test_kinds_that_it_does_not_have(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path)
    with pytest.raises(CheckpointError, match=CANNOT[kind]) as caught:
        describe(load_tokenizer(tmp_path))
    assert "`mygpt train FILE` trains a model" in caught.value.hint


@pytest.mark.parametrize("spec", ["char", "bpe"])
def test_our_own_splitting_and_characters_have_no_counterpart(spec: str) -> None:
    with pytest.raises(CheckpointError, match=r"a token for each character|splits text by a pattern"):
        describe(train_tokenizer(spec, [corpus_text()]))


def test_bytes_alone_have_no_counterpart() -> None:
    with pytest.raises(CheckpointError, match="no merges"):
        describe(train_tokenizer("bpe", ["ab"], vocab_size=256, pattern=LLAMA3_PATTERN))


def by_scores(found: Any, text: str) -> list[int]:
    """Merge as SentencePiece does: of all neighbours that make a token, those of the best score first."""
    ids = {name: token for token, name in enumerate(found.tokens)}
    pieces = list((("▁" if found.adds_space else "") + text).replace(" ", "▁"))
    while True:
        made = [(i, ids[pair]) for i, pair in enumerate(map("".join, pairwise(pieces))) if pair in ids]
        pairs = [(found.scores[token], -i) for i, token in made]
        if not pairs:
            break
        place = -max(pairs)[1]
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    return [
        token
        for piece in pieces
        for token in ([ids[piece]] if piece in ids else [ids[f"<0x{byte:02X}>"] for byte in piece.encode()])
    ]


@pytest.mark.parametrize("kind", ["llama 2", "mistral", "metaspace never"])
def test_scores_merge_as_the_merges_do(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    found = describe(tokenizer)
    for text in (*HARD, *random_strings(200)):
        if text and len(text) < 400 and not text.startswith((" ", "▁")) and "<" not in text:
            assert by_scores(found, text) == tokenizer.encode(text), text


def test_types_of_tokens(tmp_path: Path) -> None:
    KINDS["metaspace with added tokens"](tmp_path)
    tokenizer = load_tokenizer(tmp_path, ids=ModelIds(900, None, ()))
    found = describe(tokenizer)
    types = dict(zip(found.tokens, found.types, strict=True))
    assert found.notes == (
        "llama.cpp puts a space also before a text that begins with one, and after an added token",
    )
    assert types["<unk>"] == UNKNOWN and types["<s>"] == CONTROL and types["<0x0A>"] == BYTE
    assert types["flat"] == USER_DEFINED and types["▁"] == NORMAL and types["[PAD899]"] == UNUSED
    assert found.unknown == tokenizer.vocabulary.specials["<unk>"]
    assert found.tokens[found.ends[0]] == "<0xFF>"  # nothing ends a text of this model


def test_ends_and_beginnings() -> None:
    settings: dict[str, Any] = {"vocab_size": 300, "pattern": QWEN2_PATTERN}
    without = train_tokenizer("bpe", [corpus_text()], **settings)
    found = describe(without)
    assert [without.token_bytes(token) for token in (found.begin, *found.ends)] == [b"\xff"] * 2
    ended = describe(train_tokenizer("bpe", [corpus_text()], end_of_text=True, **settings))
    assert [ended.tokens[token] for token in (ended.begin, *ended.ends)] == ["<|endoftext|>"] * 2


def test_several_ends(tmp_path: Path) -> None:
    KINDS["qwen2"](tmp_path)
    size = load_tokenizer(tmp_path).own_size
    four = describe(load_tokenizer(tmp_path, ids=ModelIds(size, 1, (2, 0, 5, 6))))
    assert (four.begin, four.ends) == (1, (2, 0, 5))
    assert any("ends a text at three tokens" in note for note in four.notes)


@pytest.mark.parametrize("own_file", [True, False])
def test_the_chat_template_goes_along(own_file: bool, tmp_path: Path) -> None:
    KINDS["qwen2"](tmp_path)
    template = "{{ messages }}é"
    if own_file:
        (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    else:
        path = tmp_path / "tokenizer_config.json"
        named = [{"name": "tool_use", "template": "other"}, {"name": "default", "template": template}]
        settings = json.loads(path.read_text(encoding="utf-8")) | {"chat_template": named}
        path.write_text(json.dumps(settings), encoding="utf-8")
    assert describe(load_tokenizer(tmp_path, carry=True)).chat_template == template


def test_a_token_that_no_merges_make_is_refused_where_that_matters(tmp_path: Path) -> None:
    """llama.cpp looks a whole piece up before it merges for Llama 3, and for no other."""
    for pattern, whole in ((QWEN2_PATTERN, True), (LLAMA3_PATTERN, False)):
        steps = [split(pattern), plain_bytes(use_regex=False)]
        learned = json.loads(byte_level(steps, specials=[]).to_str())["model"]
        vocab = learned["vocab"] | {"qqq": len(learned["vocab"])}
        merges = [tuple(pair) for pair in learned["merges"]]
        made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole))
        made.pre_tokenizer = pre_tokenizers.Sequence(steps)
        made.decoder = tokenizers.decoders.ByteLevel()
        write(tmp_path, made)
        with pytest.raises(CheckpointError, match="no merges lead from bytes to its token 'qqq'"):
            describe(load_tokenizer(tmp_path))


def test_merges_that_scores_cannot_say_are_refused(tmp_path: Path) -> None:
    root = json.loads(sentencepiece().to_str())
    merges = root["model"]["merges"]
    first, *others = [pair for pair in merges if "".join(pair) == "".join(merges[0])]
    for changed, why in ((merges[:-1], "is not merged"), ([*merges[1:], merges[0]], "not in the order")):
        if others or changed[-1] != first:
            root["model"]["merges"] = changed
            write(tmp_path, tokenizers.Tokenizer.from_str(json.dumps(root)))
            with pytest.raises(CheckpointError, match=why):
                describe(load_tokenizer(tmp_path))

"""Text to ids and back, as Hugging Face's libraries do it; files from elsewhere; cutting."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mygpt_cli.base.errors import CheckpointError, MygptError, TextError
from mygpt_cli.tokens.tokenizer import (
    BytePairTokenizer,
    Tokenizer,
    UnknownCharacterError,
    load_tokenizer,
    pieces_of,
    safe_cut,
)
from mygpt_cli.tokens.tokenizer_json import GPT2_PATTERN, BytePairVocabulary, byte_alphabet
from mygpt_cli.tokens.tokenizer_training import (
    GPT4_PATTERN,
    SPLIT_PATTERN,
    train_tokenizer,
)
from tests.helpers.standins import SAMPLES, corpus_text, learned

RANKS = Path(__file__).parents[3] / "shared" / "data" / "tiktoken"
# Hugging Face takes special tokens out of ordinary text, and hypothesis finds their names in the source.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "<|" not in text)
FEW_LETTERS = st.text(st.sampled_from("ab \n1!"), min_size=1, max_size=60)
PROSE = st.text(st.sampled_from("abcé中😀 \t\r\n'sS12.,!\u017f\u0301\u00a0"), max_size=200)


def characters(end_of_text: bool = False) -> Tokenizer:
    return train_tokenizer("char", [corpus_text()], end_of_text=end_of_text)


def save(tokenizer: Tokenizer, folder: Path, model_type: str = "nanochat") -> Path:
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(tokenizer.to_config_json(), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    return folder


def naive_encode(text: str, tokenizer: BytePairTokenizer) -> list[int]:
    """Merge the pair of the lowest rank, leftmost first, until none is left."""
    ranks = tokenizer.vocabulary.ranks  # type: ignore[union-attr]
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(tokenizer.pattern), "isolated")
    ids = []
    for piece, _ in split.pre_tokenize_str(text):
        parts = [bytes([byte]) for byte in piece.encode()]
        while True:
            pairs = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
            if not pairs:
                break
            _, i = min(pairs)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [ranks[part] for part in parts]
    return ids


# --- Hugging Face reads what we write -------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["gpt2", "nanochat"])
@pytest.mark.parametrize("end_of_text", [False, True])
@pytest.mark.parametrize("make", [characters, learned])
def test_auto_tokenizer_gives_the_same_ids(
    tmp_path: Path, make: Callable[..., Tokenizer], end_of_text: bool, model_type: str
) -> None:
    tokenizer = make(end_of_text=end_of_text)
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path, model_type))
    assert len(theirs) == tokenizer.vocab_size
    for text in SAMPLES:
        ids = tokenizer.encode(text)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == tokenizer.decode(ids) == text
    assert theirs.eos_token_id == theirs.bos_token_id == tokenizer.end_of_text
    if end_of_text:
        assert tokenizer.end_of_text == tokenizer.vocab_size - 1
        assert theirs("a<|endoftext|>")["input_ids"] == [*tokenizer.encode("a"), tokenizer.end_of_text]


@pytest.mark.parametrize("pattern", [SPLIT_PATTERN, GPT2_PATTERN, GPT4_PATTERN], ids=["own", "gpt2", "gpt4"])
def test_patterns_split_alike_in_both_libraries(pattern: str) -> None:
    ranks = learned(2000).vocabulary.ranks  # type: ignore[union-attr]
    tokenizer = BytePairTokenizer(BytePairVocabulary(ranks, pattern, {}))
    theirs = tokenizers.Tokenizer.from_str(tokenizer.to_json())

    @settings(max_examples=300, deadline=None)
    @given(ANY_TEXT | PROSE)
    def check(text: str) -> None:
        assert theirs.encode(text).ids == tokenizer.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text

    check()


@pytest.mark.parametrize("members", [r"\p{L}", r"\p{N}", r"\s"])
def test_both_libraries_class_every_character_alike(members: str) -> None:
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    single_bytes = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("test", pat_str=members, mergeable_ranks=single_bytes, special_tokens={})
    # tiktoken leaves out what the pattern does not match; this pre-tokenizer what it does.
    matched = encoding.decode(encoding.encode_ordinary(every))
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(members), "removed")
    unmatched = "".join(piece for piece, _ in split.pre_tokenize_str(every))
    assert len(matched) + len(unmatched) == len(every)
    assert not set(matched) & set(unmatched)


@settings(max_examples=200, deadline=None)
@given(st.lists(FEW_LETTERS, min_size=1, max_size=5), FEW_LETTERS, st.integers(257, 330))
def test_learned_merges_mean_the_same_to_three_implementations(
    texts: list[str], text: str, size: int
) -> None:
    tokenizer = train_tokenizer("bpe", texts, vocab_size=size)
    assert isinstance(tokenizer, BytePairTokenizer)
    assert 256 <= tokenizer.vocab_size <= size
    ids = tokenizer.encode(text)
    assert ids == naive_encode(text, tokenizer)
    assert ids == tokenizers.Tokenizer.from_str(tokenizer.to_json()).encode(text).ids


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base", "o200k_harmony"])
def test_encodings_with_gaps_between_their_ids(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    ranks = dict(learned(2000).vocabulary.ranks)  # type: ignore[union-attr]
    monkeypatch.setattr("tiktoken_ext.openai_public.load_tiktoken_bpe", lambda *_, **__: ranks)
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    tokenizer = train_tokenizer(name, [])
    assert tokenizer.kind == name
    assert tokenizer.token_bytes(len(ranks)) == b""
    assert tokenizer.end_of_text is not None
    assert tokenizer.token_bytes(tokenizer.end_of_text) == b"<|endoftext|>"
    theirs = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path))
    assert theirs.eos_token_id == tokenizer.end_of_text
    reference = tiktoken.get_encoding(name)
    assert tokenizer.vocab_size == reference.n_vocab
    again = load_tokenizer(tmp_path)

    @settings(max_examples=100, deadline=None)
    @given(ANY_TEXT | PROSE)
    def check(text: str) -> None:
        ids = tokenizer.encode(text)
        assert ids == reference.encode_ordinary(text) == again.encode(text)
        assert ids == theirs(text)["input_ids"]

    check()
    for text in SAMPLES:
        assert tokenizer.encode(text) == theirs(text)["input_ids"] == reference.encode_ordinary(text)


@pytest.mark.skipif(
    not RANKS.is_dir(), reason="needs a tiktoken cache with r50k_base in shared/data/tiktoken"
)
def test_gpt2_has_its_published_ids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(RANKS))
    gpt2 = train_tokenizer("gpt2", [])
    assert (gpt2.kind, gpt2.vocab_size, gpt2.end_of_text) == ("gpt2", 50257, 50256)
    # From the docstrings of tiktoken and transformers.
    assert gpt2.encode("hello world") == [31373, 995]
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.encode(" Hello world") == [18435, 995]
    assert gpt2.encode("<|endoftext|>") == [27, 91, 437, 1659, 5239, 91, 29]
    reference = tiktoken.get_encoding("r50k_base")
    theirs = AutoTokenizer.from_pretrained(save(gpt2, tmp_path, "gpt2"))
    again = load_tokenizer(tmp_path)
    for text in SAMPLES:
        assert gpt2.encode(text) == reference.encode_ordinary(text) == theirs(text)["input_ids"]
        assert again.encode(text) == gpt2.encode(text)


# --- Reading back, ours and others' -----------------------------------------------------------------------


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

    @settings(max_examples=200, deadline=None)
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


Change = Callable[[dict[str, Any]], object]


def set_at(*path: Any) -> Change:
    """Make a change that sets the value at a path, which ends in the value."""

    def change(root: dict[str, Any]) -> None:
        *steps, last, value = path
        for step in steps:
            root = root[step]
        root[last] = value

    return change


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
    ("merges out of order", lambda r: r["model"]["merges"].reverse(), "out of the order"),
    ("merges are missing", lambda r: r["model"].update(merges=[], ignore_merges=False), "no merge makes"),
    ("dropout", set_at("model", "dropout", 0.1), "dropout"),
    ("a prefix", set_at("model", "continuing_subword_prefix", "##"), "continuing_subword_prefix"),
    ("a normalizer", set_at("normalizer", {"type": "NFC"}), "NFC"),
    (
        "a post-processor that adds a token",
        set_at("post_processor", {"type": "TemplateProcessing"}),
        "around the text",
    ),
    (
        "a template of numbers",
        set_at("post_processor", {"type": "TemplateProcessing", "single": [1]}),
        "around the text",
    ),
    ("a post-processor", set_at("post_processor", {"type": "RobertaProcessing"}), "RobertaProcessing"),
    ("a pre-tokenizer", set_at("pre_tokenizer", {"type": "Whitespace"}), "Whitespace"),
    ("a pre-tokenizer that is a number", set_at("pre_tokenizer", 3), "pre-tokenizer"),
    ("no pre-tokenizer", set_at("pre_tokenizer", None), "pre-tokenizer"),
    ("a third step", lambda r: r["pre_tokenizer"]["pretokenizers"].append({"type": "Digits"}), "Digits"),
    ("a space in front", set_at(*BYTE_LEVEL, "add_prefix_space", True), "space in front"),
    ("two patterns", set_at(*BYTE_LEVEL, "use_regex", True), "two"),
    ("a pattern that is no regex", set_at(*SPLIT, "pattern", {"String": " "}), "regular expression"),
    ("a split that removes", set_at(*SPLIT, "behavior", "Removed"), "isolate"),
    ("an inverted split", set_at(*SPLIT, "invert", True), "isolate"),
    ("a long pattern", set_at(*SPLIT, "pattern", "Regex", "a" * 5000), "longer"),
    ("a broken pattern", set_at(*SPLIT, "pattern", "Regex", "(a"), "pattern is unusable"),
    ("another decoder", set_at("decoder", {"type": "Metaspace"}), "Metaspace"),
    ("added tokens are an object", set_at("added_tokens", {}), "added_tokens"),
    ("an added token is a string", set_at("added_tokens", ["x"]), "not an object"),
    ("an added token that strips", set_at("added_tokens", 0, "lstrip", True), "white space before"),
    ("an added token for words", set_at("added_tokens", 0, "single_word", True), "whole words"),
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


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_a_pattern_that_loses_text_is_refused(tmp_path: Path) -> None:
    root = json.loads(learned().to_json())
    root["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[a-z]+"
    (tmp_path / "tokenizer.json").write_text(json.dumps(root), encoding="utf-8")
    with pytest.raises(CheckpointError, match="loses text"):
        load_tokenizer(tmp_path).encode("two words")


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


# --- Characters -------------------------------------------------------------------------------------------


def test_characters_are_sorted_and_round_trip() -> None:
    tokenizer = train_tokenizer("char", ["banana\n", "Ġ😀"])
    assert [tokenizer.token_bytes(i).decode() for i in range(tokenizer.vocab_size)] == sorted("ban\nĠ😀")
    assert tokenizer.encode("nab") == [3, 1, 2]
    assert tokenizer.decode([3, 1, 2]) == "nab"
    assert (tokenizer.kind, tokenizer.end_of_text) == ("char", None)
    assert tokenizer.encode_array("nab").dtype == "uint32"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abcé", r"'é' \(U\+00E9\), character 4 of"),
        ("\x1bab", r"U\+001B, character 1 of"),
        ("ab\U0010ffff", r"U\+10FFFF, character 3 of"),
        ("a\ud800", r"U\+D800, character 2 of"),
    ],
)
def test_an_unknown_character_is_shown_with_its_place(text: str, words: str) -> None:
    with pytest.raises(UnknownCharacterError, match=words) as caught:
        train_tokenizer("char", ["abc"]).encode(text)
    assert "bpe" in caught.value.hint
    assert caught.value.exit_code == 4


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_characters_round_trip_any_text(text: str) -> None:
    tokenizer = train_tokenizer("char", [text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text))


# --- Byte pairs -------------------------------------------------------------------------------------------


@given(ANY_TEXT)
def test_byte_pairs_round_trip_any_text(text: str) -> None:
    tokenizer = TOKENIZER
    assert tokenizer.decode_bytes(tokenizer.encode(text)) == text.encode()


TOKENIZER = learned(300)


def test_special_text_is_plain_text_and_the_special_token_is_last() -> None:
    tokenizer = learned(300, end_of_text=True)
    assert tokenizer.vocab_size == 300
    assert tokenizer.end_of_text == 299
    assert 299 not in tokenizer.encode("<|endoftext|>")
    assert tokenizer.decode([299]) == "<|endoftext|>"
    assert learned(300).end_of_text is None


@pytest.mark.parametrize("text", [" ", "\n", "a", "\t"])
def test_long_runs_are_encoded(text: str) -> None:
    run = text * 1_100_000
    ids = TOKENIZER.encode_array(run)
    assert TOKENIZER.decode(ids.tolist()) == run
    assert train_tokenizer("bpe", [run], vocab_size=300).vocab_size > 256


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(TextError, match=r"U\+D83D"):
        TOKENIZER.encode("a\ud83d")


def test_split_characters_decode_to_exact_bytes() -> None:
    ids = train_tokenizer("bpe", ["x"], vocab_size=256).encode("😀")
    tokenizer = train_tokenizer("bpe", ["x"], vocab_size=256)
    assert tokenizer.decode_bytes(ids[:2]) == "😀".encode()[:2]
    assert tokenizer.decode(ids[:2]) == "\ufffd"
    assert tokenizer.decode(ids) == "😀"


@pytest.mark.parametrize("token", [-1, 300, 10**12])
def test_ids_beyond_the_vocabulary_are_refused(token: int) -> None:
    with pytest.raises(TextError, match="ids go from 0 to 299"):
        TOKENIZER.decode([1, token])


# --- Cutting ----------------------------------------------------------------------------------------------

WORDS = st.lists(
    st.sampled_from(
        ["word", " ", "\n", "it's", "12345", "!?", "中文。", "é", "\t", "  ", "\r\n", "😀", "\u0301"]
    ),
    max_size=60,
).map("".join)


@pytest.mark.parametrize("pattern", [SPLIT_PATTERN, GPT2_PATTERN, GPT4_PATTERN], ids=["own", "gpt2", "gpt4"])
def test_cuts_leave_the_tokens_as_they_are(pattern: str) -> None:
    ranks = learned(2000).vocabulary.ranks  # type: ignore[union-attr]
    tokenizer = BytePairTokenizer(BytePairVocabulary(ranks, pattern, {}))

    @settings(max_examples=400, deadline=None)
    @given(WORDS | PROSE, st.integers(0, 250))
    def check(text: str, limit: int) -> None:
        cut = safe_cut(text, 0, limit)
        # A cut at the limit may also be the emergency, which changes tokens.
        if cut < limit:
            assert tokenizer.encode(text[:cut]) + tokenizer.encode(text[cut:]) == tokenizer.encode(text)

    check()


@given(WORDS | FEW_LETTERS | PROSE, st.integers(0, 60), st.integers(0, 200))
def test_the_cut_is_the_last_safe_place(text: str, start: int, room: int) -> None:
    limit = start + room
    if limit >= len(text):
        expected = len(text)
    else:
        safe = [
            place
            for place in range(start + 1, limit + 1)
            if (text[place] == " " and not text[place - 1].isspace())
            or (text[place] in "\r\n" and text[place - 1].isalnum())
        ]
        expected = max(safe, default=limit)
    assert safe_cut(text, start, limit) == expected


@given(WORDS, st.integers(1, 50))
def test_pieces_are_short_and_make_up_the_text(text: str, size: int) -> None:
    pieces = list(pieces_of(text, size))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces)


@pytest.mark.parametrize("pattern", ["", "a*", "(?=b)", "b|(?=a)"])
def test_a_pattern_that_matches_nothing_is_refused(pattern: str) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    tokenizer = BytePairTokenizer(BytePairVocabulary(ranks, pattern, {}))
    with pytest.raises(CheckpointError, match="splitting pattern"):
        tokenizer.encode("ab")

"""Patterns that others know by their letters, and vocabularies that are learned with them."""

import hashlib
import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from mygpt_cli.tokens.loading import load_tokenizer
from mygpt_cli.tokens.patterns import KNOWN, LLAMA3_PATTERN, QWEN2_PATTERN
from mygpt_cli.tokens.tokenizer import BytePairTokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.helpers.foreign_tokenizers import HARD, random_strings, train_text


def test_patterns_are_those_that_ollama_and_transformers_know() -> None:
    # https://github.com/ollama/ollama, convert/tokenizer.go, has these digests for "llama-bpe" and "qwen2".
    digests = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in (LLAMA3_PATTERN, QWEN2_PATTERN)]
    assert digests == ["d98f9631be1e9607", "1ff7f41064896984"]
    assert PRETOKENIZE_REGEX == QWEN2_PATTERN
    assert {LLAMA3_PATTERN, QWEN2_PATTERN} <= KNOWN


@pytest.mark.parametrize(
    ("model_type", "pattern"), [("llama", LLAMA3_PATTERN), ("qwen3", QWEN2_PATTERN)], ids=["llama", "qwen3"]
)
def test_what_is_learned_means_the_same_to_auto_tokenizer(
    tmp_path: Path, model_type: str, pattern: str
) -> None:
    ours = train_tokenizer("bpe", [train_text()], vocab_size=700, end_of_text=True, pattern=pattern)
    for name, data in ours.files().items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    assert isinstance(again, BytePairTokenizer)
    assert (again.pattern, again.to_json()) == (pattern, ours.to_json())
    assert theirs.eos_token_id == ours.end_of_text
    strings = [*random_strings(2000), *HARD]
    for text, ids in zip(strings, theirs(strings)["input_ids"], strict=True):
        assert ours.encode(text) == ids
    split, last = json.loads(ours.to_json())["pre_tokenizer"]["pretokenizers"]
    assert (split["type"], split["behavior"], split["pattern"]) == ("Split", "Isolated", {"Regex": pattern})
    assert (last["type"], last["use_regex"], last["add_prefix_space"]) == ("ByteLevel", False, False)

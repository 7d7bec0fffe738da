import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from mygpt_cli.tokens.loading import load_tokenizer
from tests.helpers.foreign_tokenizers import HARD, Maker, llama2, random_strings, smollm2
from tests.helpers.rules import of_newer_transformers

CLASSES = (
    None,
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
    "GPT2Tokenizer",
    "Qwen2TokenizerFast",
    "LlamaTokenizer",
)


@of_newer_transformers
@pytest.mark.parametrize("model_type", ["gpt2", "nanochat", "llama", "mistral", "qwen2", "qwen3", "smollm3"])
@pytest.mark.parametrize("name", CLASSES)
def test_the_class_is_that_of_auto_tokenizer(tmp_path: Path, model_type: str, name: str | None) -> None:
    """Digits and spaces tell the classes apart."""
    makers: tuple[Maker, ...] = (smollm2, llama2)
    for place, make in enumerate(makers):
        if make is llama2 and (model_type in ("gpt2", "qwen2", "qwen3") or name in CLASSES[3:5]):
            continue  # classes of another kind than the file
        folder = tmp_path / str(place)
        make(folder)
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
        settings = {} if name is None else {"tokenizer_class": name}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
        for text in [*random_strings(60), *HARD[:-1], "   5", "  it'S e\u0301 123"]:
            assert [*ours.prefix, *ours.encode(text)] == theirs(text)["input_ids"]


@of_newer_transformers
def test_a_setting_for_two_files_begins_a_text(tmp_path: Path) -> None:
    smollm2(tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.prefix == (0,)
    assert theirs("a cat")["input_ids"] == [0, *ours.encode("a cat")]

"""Checkpoints open in transformers and back; what cannot be opened is explained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.checkpoints import checkpoint, layout
from mygpt_cli.tokens.dataset import Dataset
from tests.helpers.models import VARIANTS, random_model
from tests.helpers.rules import VARIANTS_OF_TRANSFORMERS
from tests.helpers.saved import save

TEXT = "12 times 12 is 144.\n"


# AutoTokenizer splits a text for Qwen2 as Qwen2 does, whatever a tokenizer.json says: not into characters.
@pytest.mark.parametrize("variant", [each for each in VARIANTS_OF_TRANSFORMERS if each.values != ("qwen2",)])
def test_what_mygpt_saves_opens_in_transformers_and_back(
    variant: str, tmp_path: Path, tiny_dataset: Dataset
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = random_model(**(VARIANTS[variant] | {"vocab_size": tiny_dataset.tokenizer.vocab_size}))
    save(tmp_path / "ours", model, tiny_dataset, step=1)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert tokenizer(TEXT)["input_ids"] == tiny_dataset.tokenizer.encode(TEXT)
    ids = torch.tensor([tiny_dataset.tokenizer.encode(TEXT)])
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(model(ids), expected, atol=1e-5, rtol=0)
        theirs.save_pretrained(tmp_path / "theirs")
        tokenizer.save_pretrained(tmp_path / "theirs")
        back = checkpoint.load(tmp_path / "theirs")
        torch.testing.assert_close(back.model(ids), expected, atol=1e-5, rtol=0)
    assert back.tokenizer.encode(TEXT) == ids[0].tolist()
    assert checkpoint.load(tmp_path / "ours").config == model.config


def test_transformers_default_configurations_open(tmp_path: Path, tiny_dataset: Dataset) -> None:
    """Folders that never saw mygpt: every field that we do not write has transformers' default."""
    from transformers import AutoModelForCausalLM, GPT2Config, NanoChatConfig

    vocab = tiny_dataset.tokenizer.vocab_size
    for config in (
        GPT2Config(vocab_size=vocab, n_layer=2, n_head=2, n_embd=16, n_positions=32),
        NanoChatConfig(
            vocab_size=vocab, num_hidden_layers=2, num_attention_heads=2, hidden_size=16, intermediate_size=40
        ),
    ):
        folder = tmp_path / config.model_type
        theirs = AutoModelForCausalLM.from_config(config).eval()
        theirs.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(tiny_dataset.tokenizer.to_json(), encoding="utf-8")
        ids = torch.tensor([tiny_dataset.tokenizer.encode(TEXT)])
        with torch.no_grad():
            ours = checkpoint.load(folder).model(ids)
            torch.testing.assert_close(ours, theirs(ids).logits, atol=1e-5, rtol=0)


def test_old_gpt2_names_open(saved: Path, tmp_path: Path, tiny_dataset: Dataset) -> None:
    """The first GPT-2 files lack the prefix and carry their causal masks."""
    model = random_model(arch="gpt2", vocab_size=tiny_dataset.tokenizer.vocab_size)
    save(tmp_path / "old", model, tiny_dataset, step=1)
    (tmp_path / "old" / layout.MANIFEST).unlink()
    (tmp_path / "old" / layout.STATE).unlink()
    path = tmp_path / "old" / layout.WEIGHTS
    tensors = {name.removeprefix("transformer."): t.half() for name, t in load_file(path).items()}
    save_file(tensors | {"h.0.attn.bias": torch.ones(1, 1, 24, 24)}, path)
    back = checkpoint.load(tmp_path / "old").model
    for ours, theirs in zip(back.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_biases_trained_elsewhere_come_back(tmp_path: Path, tiny_dataset: Dataset) -> None:
    model = random_model(arch="gpt2", bias=False, vocab_size=tiny_dataset.tokenizer.vocab_size)
    save(tmp_path / "m", model, tiny_dataset, step=1)
    assert checkpoint.load(tmp_path / "m").config.mlp_bias is False
    path = tmp_path / "m" / layout.WEIGHTS
    tensors = load_file(path)
    tensors["transformer.h.1.mlp.c_fc.bias"][3] = 2.0
    save_file(tensors, path)
    (tmp_path / "m" / layout.MANIFEST).unlink()
    (tmp_path / "m" / layout.STATE).unlink()
    back = checkpoint.load(tmp_path / "m")
    assert back.config.mlp_bias is True
    assert dict(back.model.named_parameters())["blocks.1.mlp.up.bias"][3] == 2.0


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"model_type": "bert"}, "of type 'bert'"),
        ("config.json", {"num_hidden_layers": 3}, "'model.layers.2.self_attn.q_proj.weight' is missing"),
        ("config.json", {"num_hidden_layers": 10**9}, "layers must be at most 1,000"),
        ("config.json", {"num_hidden_layers": 1}, "does not belong to this model"),
        ("config.json", {"intermediate_size": 64}, "has shape"),
        ("config.json", {"hidden_size": "wide"}, "hidden_size must be a positive whole number"),
        ("config.json", {"num_attention_heads": 5}, "not divisible by 5 heads"),
        ("config.json", {"vocab_size": 4}, "has shape"),
        ("config.json", {"rope_parameters": {"rope_type": "yarn"}}, "'yarn' is not supported"),
        ("config.json", {"hidden_act": "mish"}, "unknown activation 'mish'"),
        ("config.json", {"max_position_embeddings": 10**9}, "context must be at most"),
    ],
)
def test_a_foreign_file_is_explained(saved: Path, file: str, change: dict[str, Any], message: str) -> None:
    (saved / layout.MANIFEST).unlink()
    (saved / layout.STATE).unlink()
    path = saved / file
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(saved)


def test_pickled_weights_are_not_opened(saved: Path) -> None:
    (saved / layout.MANIFEST).unlink()
    (saved / layout.STATE).unlink()
    (saved / layout.WEIGHTS).rename(saved / "pytorch_model.bin")
    with pytest.raises(CheckpointError) as fault:
        checkpoint.load(saved)
    assert "safe_serialization" in fault.value.hint


def test_an_index_without_a_map_is_refused(saved: Path) -> None:
    (saved / layout.MANIFEST).unlink()
    (saved / layout.STATE).unlink()
    (saved / layout.WEIGHTS).rename(saved / "model-00001-of-00002.safetensors")
    (saved / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"index\.json cannot be read: it has no 'weight_map'"):
        checkpoint.load(saved)


def test_duplicate_keys_are_refused(saved: Path) -> None:
    (saved / layout.MANIFEST).unlink()
    (saved / layout.STATE).unlink()
    path = saved / "config.json"
    path.write_text('{"model_type": "gpt2", ' + path.read_text(encoding="utf-8")[1:], encoding="utf-8")
    with pytest.raises(CheckpointError, match="a key appears twice"):
        checkpoint.load(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_files_that_git_has_not_fetched_are_named(name: str, tmp_path: Path, tiny_dataset: Dataset) -> None:
    variant = VARIANTS["llama, shared keys"] | {"vocab_size": tiny_dataset.tokenizer.vocab_size}
    save(tmp_path / "model", random_model(**variant), tiny_dataset, step=1)
    for file in (layout.MANIFEST, layout.STATE):
        (tmp_path / "model" / file).unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"
    (tmp_path / "model" / name).write_text(pointer, encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"{name} is only a pointer of Git LFS"):
        checkpoint.load(tmp_path / "model")

"""Checkpoints as GGUF files: what transformers reads out of them, and what cannot go."""

import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mygpt_cli.base.errors import CheckpointError, MygptError, ResourceError, UsageError
from mygpt_cli.checkpoints import gguf as writing
from mygpt_cli.checkpoints.checkpoint import Checkpoint
from mygpt_cli.checkpoints.gguf import Exported, export
from mygpt_cli.model.config import RopeScaling
from mygpt_cli.tokens.patterns import GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from tests.helpers.foreign_tokenizers import HARD, random_strings
from tests.helpers.rules import of_newer_transformers
from tests.helpers.standins import corpus_text, random_model

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")

SIZE = 420
IDS = torch.arange(60)[None] * 7 % SIZE
# Contexts are those that transformers takes where it does not read a file's own.
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"arch": "gpt2", "context": 1024},
    "gpt2 without biases, own head": {"arch": "gpt2", "context": 1024, "bias": False, "tied": False},
    "llama": {"arch": "llama", "kv_heads": 1},
    "llama, tied, wide heads": {"arch": "llama", "tied": True, "head_width": 32},
    "mistral": {"arch": "mistral", "kv_heads": 1, "window": 4096, "windowed": (0, 1)},
    "qwen2": {"arch": "qwen2", "kv_heads": 1},
    "qwen2, tied": {"arch": "qwen2", "tied": True},
    "qwen3": {"arch": "qwen3", "kv_heads": 1, "head_width": 128},
}
PATTERNS = {"gpt2": GPT2_PATTERN, "qwen2": QWEN2_PATTERN, "qwen3": QWEN2_PATTERN}


def tokenizer(arch: str) -> Tokenizer:
    pattern = PATTERNS.get(arch, LLAMA3_PATTERN)
    return train_tokenizer("bpe", [corpus_text()], vocab_size=SIZE, end_of_text=True, pattern=pattern)


def checkpoint(folder: Path, context: int = 64, **parts: Any) -> Checkpoint:
    words = tokenizer(parts["arch"])
    model = random_model(words.vocab_size, context=context, **parts)
    return Checkpoint(folder, model, words, model.config, None)


def write(folder: Path, kind: str = "f32", **parts: Any) -> tuple[Checkpoint, Exported]:
    made = checkpoint(folder, **parts)
    return made, export(made, folder / "model.gguf", kind, lambda stage, fraction: None)


def opened(folder: Path) -> Any:
    """Return the model that transformers makes of a GGUF file.

    `from_pretrained` does the same, and asks for a further package.
    """
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = transformers.AutoConfig.from_pretrained(folder, gguf_file="model.gguf")
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    path = str(folder / "model.gguf")
    tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    found = model.load_state_dict(tensors, strict=False)
    assert not found.unexpected_keys
    assert found.missing_keys == (["lm_head.weight"] if config.tie_word_embeddings else [])
    model.tie_weights()
    return model


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def stored(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@of_newer_transformers
@pytest.mark.parametrize("name", MODELS)
def test_transformers_reads_the_same_logits_and_ids_out_of_it(name: str, tmp_path: Path) -> None:
    made, done = write(tmp_path, **MODELS[name])
    logits = made.model(IDS)
    assert logits.std() > 0.1
    with torch.no_grad():
        assert torch.allclose(opened(tmp_path)(IDS).logits, logits, atol=1e-4)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in (*HARD, *random_strings(300)):
        assert theirs.encode(text, add_special_tokens=False) == made.tokenizer.encode(text), text
    end = made.tokenizer.end_of_text
    assert end is not None
    assert theirs.eos_token_id == end == theirs.convert_tokens_to_ids("<|endoftext|>")
    assert done.tensors == {"f32": len(stored(tmp_path / "model.gguf"))}
    assert (done.tokens, done.notes) == (SIZE, ())
    assert done.parameters == sum(parameter.numel() for parameter in made.model.parameters()) + (
        0 if made.config.norm_bias or made.config.norm == "rms" else _zeros(made)
    )


def _zeros(made: Checkpoint) -> int:
    """Count the biases that a file of gpt2 holds though the model has none."""
    cfg = made.config
    return cfg.layers * (2 + 3 + 1 + 4 + 1) * cfg.width + cfg.width


@pytest.mark.parametrize("kind", ["bf16", "q8_0"])
def test_rounded_matrices_are_near_and_all_else_is_exact(kind: str, tmp_path: Path) -> None:
    made, done = write(tmp_path, kind, arch="llama", width=64, heads=2)
    exact = dict(made.model.named_parameters())
    for name, tensor in stored(tmp_path / "model.gguf").items():
        assert tensor.tensor_type.name.lower() == (kind if "norm" not in name else "f32"), name
    down = stored(tmp_path / "model.gguf")["blk.1.ffn_down.weight"]
    read = torch.from_numpy(gguf.quants.dequantize(down.data, down.tensor_type))
    matrix = exact["blocks.1.mlp.down.weight"]
    if kind == "bf16":
        assert torch.equal(read, matrix.bfloat16().float())
    else:
        steps = matrix.unflatten(1, (-1, 32)).abs().amax(-1, keepdim=True) / 127  # type: ignore[no-untyped-call]
        assert ((read - matrix).unflatten(1, (-1, 32)).abs() < 0.57 * steps).all()  # type: ignore[no-untyped-call]
        assert 0 < done.largest_error < 0.01
    with torch.no_grad():
        difference = opened(tmp_path)(IDS).logits - made.model(IDS)
    assert 0 < difference.abs().max() < (0.5 if kind == "bf16" else 1.0)


@of_newer_transformers
def test_the_context_of_a_file_is_no_longer_than_the_windows(tmp_path: Path) -> None:
    made, done = write(tmp_path, arch="qwen3", head_width=128, context=512, window=64, windowed=(0, 1))
    assert fields(tmp_path / "model.gguf")["qwen3.context_length"] == 64
    with torch.no_grad():
        assert torch.allclose(opened(tmp_path)(IDS).logits, made.model(IDS), atol=1e-4)
    (note,) = done.notes
    assert "64 tokens at a time, not 512: llama.cpp has no windows of attention for qwen3 models" in note


def test_rows_that_are_no_whole_blocks_stay_exact(tmp_path: Path) -> None:
    _, done = write(tmp_path, "q8_0", arch="llama", width=16, heads=2, mlp_width=48)
    assert done.tensors == {"f32": 21}
    assert done.notes == ("16 matrices stay in f32, because their rows are no multiple of 32",)


@given(arrays.arrays(np.float32, (2, 64), elements=st.floats(-1e4, 1e4, width=32)))
@example(np.full((2, 64), np.finfo(np.float32).tiny, np.float32) * np.arange(2, dtype=np.float32)[:, None])
def test_rounding_to_8_bits_stays_within_its_bounds(numbers: np.ndarray) -> None:
    errors, most = writing._q8_0_errors(writing._packed(numbers, "q8_0"), numbers)
    assert (errors <= most).all()


def test_scaled_rotations_are_those_of_transformers(tmp_path: Path) -> None:
    scaling = RopeScaling(kind="llama3", factor=8.0, original_context=32)
    write(tmp_path, arch="llama", rope_scaling=scaling, head_width=32, rope_theta=500.0)
    config = transformers.LlamaConfig(
        head_dim=32,
        max_position_embeddings=64,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    frequencies, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 500.0 ** -(torch.arange(0, 32, 2) / 32)
    divisors = torch.from_numpy(stored(tmp_path / "model.gguf")["rope_freqs.weight"].data.copy())
    assert torch.allclose(plain / divisors, frequencies, rtol=1e-5)
    assert divisors[0] == 1 and divisors[-1] == 8
    assert "llama.rope.scaling.type" not in fields(tmp_path / "model.gguf")
    write(tmp_path, arch="qwen2", rope_scaling=RopeScaling(kind="linear", factor=2.0))
    found = fields(tmp_path / "model.gguf")
    assert (found["qwen2.rope.scaling.type"], found["qwen2.rope.scaling.factor"]) == ("linear", 2.0)


def test_the_file_says_what_the_model_is(tmp_path: Path) -> None:
    made, _ = write(tmp_path, arch="llama", kv_heads=1, head_width=32, context=50, rope_theta=777.0)
    found = fields(tmp_path / "model.gguf")
    told = {
        "general.architecture": "llama",
        "general.name": "model",
        "general.file_type": 0,
        "llama.context_length": 50,
        "llama.embedding_length": 16,
        "llama.block_count": 2,
        "llama.feed_forward_length": made.config.mlp_width,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.attention.key_length": 32,
        "llama.attention.value_length": 32,
        "llama.rope.dimension_count": 32,
        "llama.rope.freq_base": 777.0,
        "llama.vocab_size": SIZE,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.add_bos_token": False,
    }
    assert {name: found[name] for name in told} == told
    assert found["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    ids = {found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.eos_token_id"]}
    assert ids == {made.tokenizer.end_of_text}


CANNOT: dict[str, tuple[dict[str, Any], str]] = {
    "nanochat": ({"arch": "nanochat"}, "llama.cpp has no nanochat models"),
    "gpt2 with another activation": ({"arch": "gpt2", "activation": "relu"}, "its activation is relu"),
    "gpt2 with scores by layer": ({"arch": "gpt2", "scale_by_layer": True}, "scaled by layer"),
    "llama with another activation": ({"arch": "llama", "activation": "gelu"}, "its activation is gelu"),
    "qwen3 with biases": (
        {"arch": "qwen3", "attention_bias": True, "output_bias": True},
        "its attention has an output bias",
    ),
    "qwen2 with wide heads": ({"arch": "qwen2", "head_width": 32}, "not as wide as the model"),
    "qwen3, scaled": (
        {"arch": "qwen3", "rope_scaling": RopeScaling(kind="llama3", factor=2.0, original_context=8)},
        "scaled as llama3",
    ),
    "smollm3 that rotates elsewhere": ({"arch": "smollm3", "unrotated": (0,)}, "every fourth"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_llama_cpp_does_not_have_is_refused(name: str, tmp_path: Path) -> None:
    parts, why = CANNOT[name]
    with pytest.raises(CheckpointError, match=why) as caught:
        write(tmp_path, **parts)
    assert "`mygpt train FILE` trains a model" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_smollm3_and_all_biases_of_llama_go(tmp_path: Path) -> None:
    _, done = write(tmp_path, arch="smollm3", unrotated=())
    assert done.architecture == "smollm3"
    write(tmp_path, arch="llama", attention_bias=True, output_bias=True, mlp_bias=True)
    names = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}
    assert {f"blk.0.{name}.bias" for name in names} < stored(tmp_path / "model.gguf").keys()


@pytest.mark.parametrize("kind", writing.TYPES)
def test_a_file_that_reads_back_otherwise_is_not_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"old")
    packed, calls = writing._packed, itertools.count()

    def one_number_off(given: np.ndarray, kind: str) -> np.ndarray:
        numbers = packed(given, kind).copy()
        if next(calls) == 5:
            numbers.view(np.uint8).reshape(-1)[3] ^= 0x10
        return numbers

    monkeypatch.setattr(writing, "_packed", one_number_off)
    with pytest.raises(MygptError, match="read back, has other numbers in 'blk"):
        write(tmp_path, kind, arch="llama", width=64)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("what", ["tokens", "merges", "types"])
def test_another_vocabulary_is_not_written(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = writing._describe_vocabulary

    def otherwise(writer: Any, vocabulary: Any) -> None:
        entries = getattr(vocabulary, what)
        changed = [*entries[:-2], entries[-1], entries[-1]] if what != "types" else [3, *entries[1:]]
        describe(writer, replace(vocabulary, **{what: changed}))

    monkeypatch.setattr(writing, "_describe_vocabulary", otherwise)
    with pytest.raises(MygptError, match=f"read back, has (other {what}|tokens of other types)"):
        write(tmp_path, arch="llama")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"old")

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        write(tmp_path, arch="llama")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        writing.check_gguf()
    assert caught.value.hint == "pip install gguf"


@pytest.mark.parametrize("kind", writing.TYPES)
def test_weights_alone_are_those_of_an_export(kind: str, tmp_path: Path) -> None:
    made, _ = write(tmp_path, kind, arch="llama", kv_heads=1)
    writing.write_weights(made.model, tmp_path / "alone.gguf", kind)
    whole, alone = (gguf.GGUFReader(tmp_path / name) for name in ("model.gguf", "alone.gguf"))
    assert [tensor.name for tensor in alone.tensors] == [tensor.name for tensor in whole.tensors]
    for one, other in zip(alone.tensors, whole.tensors, strict=True):
        assert np.array_equal(one.data, other.data)
    assert alone.fields["tokenizer.ggml.model"].contents() == "none"

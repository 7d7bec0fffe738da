"""Models of the parts that Llama and its relatives have, whatever architectures are there."""

from typing import Any

import torch

from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT

LLAMA: dict[str, Any] = {
    **{"positions": "rotary", "norm": "rms", "norm_gain": True, "norm_bias": False, "norm_eps": 1e-5},
    **{"activation": "silu", "gated": True, "tied": True},
}
SHAPE: dict[str, Any] = {"vocab_size": 53, "layers": 2, "heads": 4, "width": 32, "context": 24}
BIASES = ("norm_bias", "mlp_bias", "attention_bias", "output_bias")
LIKE_LLAMA: dict[str, dict[str, Any]] = {
    "llama": {"mlp_width": 44},
    "llama, shared keys, own head": {"kv_heads": 2, "tied": False},
    "qwen2": {"kv_heads": 1, "attention_bias": True, "window": 5, "windowed": (1,)},
    "qwen3": {"kv_heads": 2, "head_width": 12, "qk_norm": "before", "qk_norm_gain": True},
    "a window": {"window": 40, "windowed": (0, 1)},
    "whole blocks in a window": {"window": 32, "windowed": (0, 1)},
    "rotated before a norm with gain": {"qk_norm": "after", "qk_norm_gain": True, "head_width": 6},
    "biases, gelu": {**dict.fromkeys(BIASES, True), "activation": "gelu_new"},
}


def like_llama(**parts: Any) -> GPT:
    """Return a small model of Llama's parts but for those given, with random weights."""
    model = GPT(ModelConfig(arch="gpt2", **(LLAMA | SHAPE | parts)))
    rng = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.2, generator=rng)
    return model

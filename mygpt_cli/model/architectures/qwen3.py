"""Qwen3: Llama with a norm of queries and keys, heads of any width (Yang et al., 2025, arXiv:2505.09388)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from mygpt_cli.model.architectures.base import Reader
from mygpt_cli.model.architectures.llama import Llama
from mygpt_cli.model.architectures.qwen2 import Qwen2
from mygpt_cli.model.config import ModelConfig


class Qwen3(Qwen2):
    """Its parts and its names."""

    name = "qwen3"
    trainable = True
    windowed = True
    parts: ClassVar[Mapping[str, Any]] = {
        **Llama.parts,
        "norm_eps": 1e-6,
        "qk_norm": "before",
        "qk_norm_gain": True,
    }
    free = frozenset(("norm_eps", "activation", "tied", "windowed", "attention_bias", "output_bias"))
    family = "Qwen3"
    head_width = 128
    gguf = "qwen3"

    def own_names(self, config: ModelConfig) -> dict[str, Any]:
        """Return the window and the biases."""
        return {**super().own_names(config), "attention_bias": config.attention_bias}

    def own_parts(self, read: Reader, layers: int) -> dict[str, Any]:
        """Read them."""
        bias = read.truth("attention_bias", False)
        return {**super().own_parts(read, layers), "attention_bias": bias, "output_bias": bias}

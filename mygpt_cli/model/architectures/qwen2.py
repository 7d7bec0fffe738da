"""Qwen2 and Qwen2.5: Llama with biases of queries, keys and values (Yang et al., 2024, arXiv:2407.10671).

Their configuration does not mention these biases. To train from a text, Qwen3 is the better choice.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from mygpt_cli.model.architectures.base import Reader
from mygpt_cli.model.architectures.llama import Llama
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.tokens.patterns import QWEN2_PATTERN

FULL, SLIDING = "full_attention", "sliding_attention"


class Qwen2(Llama):
    """Its parts and its names."""

    name = "qwen2"
    trainable = False
    parts: ClassVar[Mapping[str, Any]] = {**Llama.parts, "norm_eps": 1e-6, "attention_bias": True}
    free = frozenset(("norm_eps", "activation", "tied", "windowed"))
    family = "Qwen2"
    sizes: ClassVar[Mapping[str, int]] = {
        **Llama.sizes,
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "max_position_embeddings": 32768,
    }
    kv_heads = 32
    splitting = QWEN2_PATTERN
    gguf = "qwen2"
    interleaved = False

    def gguf_faults(self, config: ModelConfig) -> list[str]:
        """Say which parts llama.cpp does not have."""
        faults = super().gguf_faults(config)
        if self.gguf == Qwen2.gguf and config.heads * config.head_width != config.width:
            faults.append("its heads together are not as wide as the model")
        return faults

    def own_names(self, config: ModelConfig) -> dict[str, Any]:
        """Return the window, and in which layers it is."""
        return {
            "use_sliding_window": bool(config.windowed),
            "sliding_window": config.window or None,
            "max_window_layers": min(config.windowed, default=config.layers),
            "layer_types": layer_types(config),
        }

    def own_parts(self, read: Reader, layers: int) -> dict[str, Any]:
        """Read it; without a list of layers they have it from `max_window_layers` on."""
        if not read.truth("use_sliding_window", False) or read.raw.get("sliding_window", 4096) is None:
            return windows(read, layers, 0, ())
        first = read.number("max_window_layers", 28)
        window = read.whole("sliding_window", 4096)
        return windows(read, layers, window, tuple(i for i in range(layers) if i >= first))


def windows(read: Reader, layers: int, window: int, unless_listed: tuple[int, ...]) -> dict[str, Any]:
    """Return the parts of attention that looks back a window in those layers that `layer_types` lists."""
    kinds = read.for_layers("layer_types", layers, (FULL, SLIDING))
    windowed = unless_listed
    if kinds is not None:
        windowed = tuple(layer for layer, kind in enumerate(kinds) if kind == SLIDING)
    if windowed and not window:
        read.faults.append(f"{SLIDING} without a sliding_window in use is not supported")
        return {}
    return {"window": window, "windowed": windowed} if windowed else {}


def layer_types(config: ModelConfig) -> list[str]:
    """Return the kind of attention of each layer."""
    return [SLIDING if layer in config.windowed else FULL for layer in range(config.layers)]

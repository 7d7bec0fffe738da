"""SmolLM3 (Hugging Face, 2025): Llama, but some layers do not rotate (Yang et al., 2025, arXiv:2501.18795).

To train from a text, Llama is the simpler choice.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from mygpt_cli.model.architectures.base import Reader
from mygpt_cli.model.architectures.llama import Llama
from mygpt_cli.model.architectures.qwen2 import layer_types, windows
from mygpt_cli.model.config import ModelConfig


class SmolLM3(Llama):
    """Its parts and its names."""

    name = "smollm3"
    trainable = False
    parts: ClassVar[Mapping[str, Any]] = {**Llama.parts, "norm_eps": 1e-6, "tied": True}
    free = Llama.free | {"unrotated", "windowed"}
    family = "SmolLM3"
    sizes: ClassVar[Mapping[str, int]] = {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "max_position_embeddings": 32768,
    }
    kv_heads = 4
    theta = 2000000.0
    tied = True
    gguf = "smollm3"

    def gguf_faults(self, config: ModelConfig) -> list[str]:
        """Say which parts llama.cpp does not have: in its smollm3 every fourth layer does not rotate."""
        faults = super().gguf_faults(config)
        if config.unrotated != tuple(range(3, config.layers, 4)):
            faults.append("other layers than every fourth do not rotate")
        return faults

    def own_names(self, config: ModelConfig) -> dict[str, Any]:
        """Return the layers that rotate, and those of attention that looks back a window."""
        return {
            **super().own_names(config),
            "no_rope_layers": [int(layer not in config.unrotated) for layer in range(config.layers)],
            "layer_types": layer_types(config),
            "use_sliding_window": bool(config.windowed),
            "sliding_window": config.window or None,
        }

    def own_parts(self, read: Reader, layers: int) -> dict[str, Any]:
        """Read them: in `no_rope_layers`, a layer with 1 does rotate."""
        rotates = read.for_layers("no_rope_layers", layers, (0, 1))
        if rotates is None:
            interval = read.whole("no_rope_layer_interval", 4)
            rotates = [int((layer + 1) % interval != 0) for layer in range(layers)]
        unrotated = tuple(layer for layer, does in enumerate(rotates) if not does)
        window = 0 if read.raw.get("sliding_window") is None else read.whole("sliding_window")
        listed = unrotated if window and read.truth("use_sliding_window", False) else ()
        return {
            **super().own_parts(read, layers),
            **windows(read, layers, window, listed),
            "unrotated": unrotated,
        }

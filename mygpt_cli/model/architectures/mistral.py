"""Mistral: Llama without biases, and with a sliding window (Jiang et al., 2023, arXiv:2310.06825).

Without its window it is Llama, which is what to train from a text.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from mygpt_cli.model.architectures.base import Reader
from mygpt_cli.model.architectures.llama import Llama
from mygpt_cli.model.config import ModelConfig

WINDOW = 4096  # where nothing is said of it


class Mistral(Llama):
    """Its parts and its names."""

    name = "mistral"
    trainable = False
    free = frozenset(("norm_eps", "activation", "tied", "windowed"))
    family = "Mistral"
    sizes: ClassVar[Mapping[str, int]] = {
        **Llama.sizes,
        "intermediate_size": 14336,
        "max_position_embeddings": 4096 * 32,
    }
    kv_heads = 8

    def own_names(self, config: ModelConfig) -> dict[str, Any]:
        """Return the window, of all layers or of none."""
        return {"sliding_window": config.window or None}

    def own_parts(self, read: Reader, layers: int) -> dict[str, Any]:
        """Read it."""
        if read.raw.get("sliding_window", WINDOW) is None:
            return {}
        return {"window": read.whole("sliding_window", WINDOW), "windowed": tuple(range(layers))}

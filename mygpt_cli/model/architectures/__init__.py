"""The architectures by name: one file for each, which knows all that belongs to it."""

from typing import Any

from mygpt_cli.base.errors import UsageError, did_you_mean
from mygpt_cli.model.architectures.base import Architecture
from mygpt_cli.model.architectures.gpt2 import GPT2
from mygpt_cli.model.architectures.llama import Llama
from mygpt_cli.model.architectures.mistral import Mistral
from mygpt_cli.model.architectures.nanochat import Nanochat
from mygpt_cli.model.architectures.qwen2 import Qwen2
from mygpt_cli.model.architectures.qwen3 import Qwen3
from mygpt_cli.model.architectures.smollm3 import SmolLM3
from mygpt_cli.model.config import ModelConfig

ARCHITECTURES: dict[str, Architecture] = {
    each.name: each for each in (Qwen3(), Llama(), GPT2(), Nanochat(), Mistral(), Qwen2(), SmolLM3())
}
DEFAULT = "qwen3"
TRAINABLE = tuple(name for name, each in ARCHITECTURES.items() if each.trainable)
BIASES = ("norm_bias", "mlp_bias", "attention_bias", "output_bias")


def find(name: str) -> Architecture:
    """Return the architecture of this name; UsageError when there is none."""
    if name not in ARCHITECTURES:
        raise UsageError(f"unknown architecture '{name}'{did_you_mean(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]


def configure(arch: str, *, bias: bool | None = None, **parts: Any) -> ModelConfig:
    """Return a model of an architecture: its shape, and parts other than the architecture's own.

    `bias` is for all linear layers inside blocks, and for norms. Raises UsageError for parts that cannot be.
    """
    architecture = find(arch)
    biases = {} if bias is None else dict.fromkeys(BIASES, bias)
    if not parts.get("mlp_width"):
        parts["mlp_width"] = architecture.mlp_width(parts["width"])
    config = ModelConfig(arch=arch, **(dict(architecture.parts) | biases | parts))
    if faults := architecture.faults(config):
        raise UsageError(faults, "`mygpt train --help-all` lists the settings of a model")
    return config

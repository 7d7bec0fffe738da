"""GPT-2: learned positions, LayerNorm, biases, a tied head (Radford et al., 2019)."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.model.architectures.base import HEAD, Architecture, Reader, Slot
from mygpt_cli.model.config import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Names that GPT2Config takes for its own (its `attribute_map`).
GENERIC = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}


class GPT2(Architecture):
    """Its parts and its names."""

    name = "gpt2"
    parts: ClassVar[Mapping[str, Any]] = {
        "positions": "learned",
        "norm": "layer",
        "norm_gain": True,
        "norm_bias": True,
        "norm_eps": 1e-5,
        "activation": "gelu_new",
        "mlp_bias": True,
        "attention_bias": True,
        "output_bias": True,
        "tied": True,
    }
    options = ("bias",)
    embedding = "transformer.wte.weight"
    prefix = "transformer."
    buffers = (".attn.bias", ".attn.masked_bias")  # causal masks
    gguf = "gpt2"

    def faults(self, config: ModelConfig) -> list[str]:
        """Say which parts GPT-2 does not have."""
        return ["gpt2 has one key/value head for each head"] if config.kv_heads != config.heads else []

    def gguf_faults(self, config: ModelConfig) -> list[str]:
        """Say which parts llama.cpp's gpt2 does not have."""
        faults = [] if config.nonlinearity == "gelu_new" else [f"its activation is {config.activation}"]
        return faults + (["its attention scores are scaled by layer"] if config.scales_queries else [])

    def slots(self, cfg: ModelConfig) -> Iterator[Slot]:
        """List the tensors; linear layers are kept as (in, out)."""
        c, f = cfg.width, cfg.mlp_width
        yield Slot(self.embedding, "embedding", (cfg.vocab_size, c))
        yield Slot("transformer.wpe.weight", "positions", (cfg.context, c))
        for i in range(cfg.layers):
            theirs, ours = f"transformer.h.{i}", f"blocks.{i}"
            for norm, name in (("ln_1", "attention_norm"), ("ln_2", "mlp_norm")):
                yield Slot(f"{theirs}.{norm}.weight", f"{ours}.{name}.weight", (c,))
                yield Slot(f"{theirs}.{norm}.bias", f"{ours}.{name}.bias" if cfg.norm_bias else "", (c,))
            for linear, name, shape, bias in (
                ("attn.c_attn", "attention.qkv", (c, 3 * c), cfg.attention_bias),
                ("attn.c_proj", "attention.out", (c, c), cfg.output_bias),
                ("mlp.c_fc", "mlp.up", (c, f), cfg.mlp_bias),
                ("mlp.c_proj", "mlp.down", (f, c), cfg.mlp_bias),
            ):
                yield Slot(f"{theirs}.{linear}.weight", f"{ours}.{name}.weight", shape, transposed=True)
                yield Slot(f"{theirs}.{linear}.bias", f"{ours}.{name}.bias" if bias else "", shape[1:])
        yield Slot("transformer.ln_f.weight", "norm.weight", (c,))
        yield Slot("transformer.ln_f.bias", "norm.bias" if cfg.norm_bias else "", (c,))
        if not cfg.tied:
            yield Slot(HEAD, "head.weight", (cfg.vocab_size, c))

    def to_config(self, config: ModelConfig) -> dict[str, Any]:
        """Return GPT2Config's own names."""
        return {
            "architectures": ["GPT2LMHeadModel"],
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_embd": config.width,
            "n_inner": config.mlp_width,
            "n_positions": config.context,
            "activation_function": config.activation,
            "layer_norm_epsilon": config.norm_eps,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": 0.0,
            "scale_attn_weights": config.scale_by_width,
            "scale_attn_by_inverse_layer_idx": config.scale_by_layer,
            # transformers' gpt2 always has biases: one without is saved with zeros, and says so here.
            "mygpt_bias": config.mlp_bias,
            "mygpt_attention_bias": config.attention_bias,
        }

    def from_config(self, read: Reader) -> dict[str, Any]:
        """Read them, or the generic names that GPT2Config takes for them."""
        read = Reader(_with_own_names(read.raw), read.faults)
        read.only("add_cross_attention", False)
        width = read.whole("n_embd", 768)
        bias, attention_bias = read.truth("mygpt_bias", True), read.truth("mygpt_attention_bias", True)
        return {
            "vocab_size": read.whole("vocab_size", 50257),
            "layers": read.whole("n_layer", 12),
            "heads": read.whole("n_head", 12),
            "width": width,
            "context": read.whole("n_positions", 1024),
            "dropout": read.number("resid_pdrop", 0.1),
            "mlp_width": read.whole("n_inner", 4 * width),
            "activation": read.word("activation_function", "gelu_new"),
            "norm_eps": read.number("layer_norm_epsilon", 1e-5),
            "tied": read.truth("tie_word_embeddings", True),
            "norm_bias": bias,
            "mlp_bias": bias,
            "attention_bias": attention_bias,
            "output_bias": attention_bias,
            "scale_by_width": read.truth("scale_attn_weights", True),
            "scale_by_layer": read.truth("scale_attn_by_inverse_layer_idx", False),
        }

    def initialise(self, name: str, parameter: "Tensor", config: ModelConfig, rng: "torch.Generator") -> None:
        """Draw from a normal distribution of deviation 0.02.

        Layers that write to the residual stream are scaled down by the square root of their number.
        """
        writes = name.endswith(("out.weight", "down.weight"))
        parameter.normal_(0.0, 0.02 / math.sqrt(2 * config.layers) if writes else 0.02, generator=rng)


def _with_own_names(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Put GPT2Config's own names in place of the generic ones; CheckpointError where they contradict."""
    own = dict(raw)
    for generic, name in GENERIC.items():
        if generic in own:
            value = own.pop(generic)
            if own.setdefault(name, value) != value:
                raise CheckpointError(
                    f"config.json: {name} is {own[name]!r}, and {generic}, its other name, is {value!r}",
                    "remove the one that is wrong",
                )
    return own

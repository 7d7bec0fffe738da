"""nanochat (Karpathy, 2025): rotary positions, norms without parameters, squared ReLU, soft-capped logits."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mygpt_cli.model.architectures.base import HEAD, Architecture, Reader, Slot, draw_around_identity
from mygpt_cli.model.architectures.rotary import read_rotary, rope_parameters
from mygpt_cli.model.config import ModelConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Nanochat(Architecture):
    """Its parts and its names."""

    name = "nanochat"
    parts: ClassVar[Mapping[str, Any]] = {
        "positions": "rotary",
        "rope_clockwise": True,
        "norm": "rms",
        "norm_gain": False,
        "norm_bias": False,
        "norm_eps": 1e-6,
        "embedding_norm": True,
        "qk_norm": "after",
        "activation": "relu2",
        "tied": False,
        "softcap": 15.0,
    }
    options = ("softcap",)
    # A token's vector moves only in steps that see the token, and begins with unit variance: at the rate that
    # suits the head it hardly does.
    rates: ClassVar[Mapping[str, float]] = {"embedding": 8.0}
    embedding = "model.embed_tokens.weight"

    def faults(self, config: ModelConfig) -> list[str]:
        """Say which parts nanochat does not have."""
        biased = config.norm_bias or config.mlp_bias
        return ["nanochat has no biases in norms and feed-forward"] if biased else []

    def slots(self, cfg: ModelConfig) -> Iterator[Slot]:
        """List the tensors; queries, keys and values are rows of one of ours."""
        c, f, kv = cfg.width, cfg.mlp_width, cfg.kv_heads * cfg.head_width
        yield Slot(self.embedding, "embedding", (cfg.vocab_size, c))
        for i in range(cfg.layers):
            theirs, ours = f"model.layers.{i}", f"blocks.{i}"
            parts = (("q_proj", 0, c), ("k_proj", c, c + kv), ("v_proj", c + kv, c + 2 * kv))
            for name, first, last in parts:
                rows = (first, last)
                yield Slot(
                    f"{theirs}.self_attn.{name}.weight",
                    f"{ours}.attention.qkv.weight",
                    (last - first, c),
                    rows,
                )
                if cfg.attention_bias:
                    yield Slot(
                        f"{theirs}.self_attn.{name}.bias", f"{ours}.attention.qkv.bias", (last - first,), rows
                    )
            yield Slot(f"{theirs}.self_attn.o_proj.weight", f"{ours}.attention.out.weight", (c, c))
            if cfg.output_bias:
                yield Slot(f"{theirs}.self_attn.o_proj.bias", f"{ours}.attention.out.bias", (c,))
            yield Slot(f"{theirs}.mlp.fc1.weight", f"{ours}.mlp.up.weight", (f, c))
            yield Slot(f"{theirs}.mlp.fc2.weight", f"{ours}.mlp.down.weight", (c, f))
        if not cfg.tied:
            yield Slot(HEAD, "head.weight", (cfg.vocab_size, c))

    def to_config(self, config: ModelConfig) -> dict[str, Any]:
        """Return NanoChatConfig's names."""
        return {
            "architectures": ["NanoChatForCausalLM"],
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "hidden_size": config.width,
            "intermediate_size": config.mlp_width,
            "max_position_embeddings": config.context,
            "hidden_act": config.activation,
            "rms_norm_eps": config.norm_eps,
            "attention_bias": config.attention_bias,
            "attention_dropout": 0.0,
            "final_logit_softcapping": config.softcap or None,
            "rope_parameters": rope_parameters(config),
            "mygpt_dropout": config.dropout,
        }

    def from_config(self, read: Reader) -> dict[str, Any]:
        """Read them."""
        heads = read.whole("num_attention_heads", 6)
        bias = read.truth("attention_bias", False)
        context = read.whole("max_position_embeddings", 2048)
        return {
            **read_rotary(read, context),
            "vocab_size": read.whole("vocab_size", 50304),
            "layers": read.whole("num_hidden_layers", 12),
            "heads": heads,
            "width": read.whole("hidden_size", 768),
            "context": context,
            "dropout": read.number("mygpt_dropout", 0.0),
            "kv_heads": read.whole("num_key_value_heads", heads),
            "mlp_width": read.whole("intermediate_size", 8192),
            "activation": read.word("hidden_act", "relu2"),
            "norm_eps": read.number("rms_norm_eps", 1e-6),
            "tied": read.truth("tie_word_embeddings", False),
            "attention_bias": bias,
            "output_bias": bias,
            "softcap": 0.0
            if read.raw.get("final_logit_softcapping", 15.0) is None
            else read.number("final_logit_softcapping", 15.0),
        }

    def initialise(self, name: str, parameter: "Tensor", config: ModelConfig, rng: "torch.Generator") -> None:
        """Draw them so that every block begins as identity."""
        draw_around_identity(name, parameter, config, rng)

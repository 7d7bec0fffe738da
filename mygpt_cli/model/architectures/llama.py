"""Llama: rotary positions, RMSNorm with gain, gated feed-forward (Touvron et al., 2023, arXiv:2302.13971).

What others narrow: Mistral, Qwen2, Qwen3 and SmolLM3 have the same names and most of the same parts.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mygpt_cli.model.architectures.base import HEAD, Architecture, Reader, Slot, draw_around_identity
from mygpt_cli.model.architectures.rotary import THETA, read_rotary, rope_in_both_names
from mygpt_cli.model.config import LARGEST_TABLE, LONGEST_CONTEXT, MOST_LAYERS, ModelConfig
from mygpt_cli.tokens.patterns import LLAMA3_PATTERN

if TYPE_CHECKING:
    import torch
    from torch import Tensor

UNIT = 32  # of the width of the feed-forward part


class Llama(Architecture):
    """Its parts and its names.

    `free` are the parts that may differ from model to model. What follows `family` is what transformers
    takes where `config.json` says nothing; of heads, 0 stands for what follows from the other sizes.
    """

    name = "llama"
    parts: ClassVar[Mapping[str, Any]] = {
        "positions": "rotary",
        "norm": "rms",
        "norm_gain": True,
        "norm_bias": False,
        "norm_eps": 1e-5,
        "activation": "silu",
        "gated": True,
        "tied": False,
        "mlp_bias": False,
        "attention_bias": False,
        "output_bias": False,
        "embedding_norm": False,
        "qk_norm": "none",
        "qk_norm_gain": False,
        "rope_clockwise": False,
        "unrotated": (),
        "windowed": (),
        "softcap": 0.0,
        "scale_by_width": True,
        "scale_by_layer": False,
    }
    free: ClassVar[frozenset[str]] = frozenset(
        ("norm_eps", "activation", "tied", "mlp_bias", "attention_bias", "output_bias")
    )
    muon_lr = 0.03
    rates: ClassVar[Mapping[str, float]] = {"embedding": 16.0}  # for the reason that nanochat has
    family: ClassVar[str] = "Llama"  # of transformers' classes
    sizes: ClassVar[Mapping[str, int]] = {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
    }
    kv_heads: ClassVar[int] = 0
    head_width: ClassVar[int] = 0
    theta: ClassVar[float] = THETA
    tied: ClassVar[bool] = False
    embedding = "model.embed_tokens.weight"
    prefix = "model."
    buffers = (".rotary_emb.inv_freq",)  # of files from before 2024
    splitting = LLAMA3_PATTERN
    gguf = "llama"
    interleaved = True

    def mlp_width(self, width: int) -> int:
        """Return 8/3 of the width: three matrices, with as many numbers as two of four times the width."""
        return -(-8 * width // (3 * UNIT)) * UNIT

    def faults(self, config: ModelConfig) -> list[str]:
        """Say which parts these models do not have."""
        faults = [
            f"{self.name} models have {name} = {value!r}, not {getattr(config, name)!r}"
            for name, value in self.parts.items()
            if name not in self.free and getattr(config, name) != value
        ]
        if "output_bias" in self.free and config.attention_bias != config.output_bias:
            faults.append(f"{self.name} models have biases in all of attention or nowhere in it")
        return faults

    def gguf_faults(self, config: ModelConfig) -> list[str]:
        """Say which parts llama.cpp does not have; of scaling and biases only its llama has all."""
        faults = [] if config.nonlinearity == "silu" else [f"its activation is {config.activation}"]
        if self.gguf != Llama.gguf and config.output_bias:
            faults.append("its attention has an output bias")
        if self.gguf != Llama.gguf and config.mlp_bias:
            faults.append("its feed-forward part has biases")
        if self.gguf != Llama.gguf and config.rope_scaling and config.rope_scaling.kind == "llama3":
            faults.append("its rotation is scaled as llama3")
        return faults

    def slots(self, cfg: ModelConfig) -> Iterator[Slot]:
        """List the tensors; queries, keys and values are rows of one of ours."""
        c, f = cfg.width, cfg.mlp_width
        q, kv = cfg.heads * cfg.head_width, cfg.kv_heads * cfg.head_width
        yield Slot(self.embedding, "embedding", (cfg.vocab_size, c))
        for i in range(cfg.layers):
            theirs, ours = f"model.layers.{i}", f"blocks.{i}"
            yield Slot(f"{theirs}.input_layernorm.weight", f"{ours}.attention_norm.weight", (c,))
            for name, first, last in (
                ("q_proj", 0, q),
                ("k_proj", q, q + kv),
                ("v_proj", q + kv, q + 2 * kv),
            ):
                place, bias = f"{theirs}.self_attn.{name}", cfg.attention_bias
                yield from _linear(place, f"{ours}.attention.qkv", (last - first, c), bias, (first, last))
            if cfg.qk_norm_gain:
                for name, norm in (("q_norm", "query_norm"), ("k_norm", "key_norm")):
                    place, target = f"{theirs}.self_attn.{name}", f"{ours}.attention.{norm}"
                    yield Slot(f"{place}.weight", f"{target}.weight", (cfg.head_width,))
            yield from _linear(f"{theirs}.self_attn.o_proj", f"{ours}.attention.out", (c, q), cfg.output_bias)
            yield Slot(f"{theirs}.post_attention_layernorm.weight", f"{ours}.mlp_norm.weight", (c,))
            for name, shape in (("gate", (f, c)), ("up", (f, c)), ("down", (c, f))):
                yield from _linear(f"{theirs}.mlp.{name}_proj", f"{ours}.mlp.{name}", shape, cfg.mlp_bias)
        yield Slot("model.norm.weight", "norm.weight", (c,))
        if not cfg.tied:
            yield Slot(HEAD, "head.weight", (cfg.vocab_size, c))

    def to_config(self, config: ModelConfig) -> dict[str, Any]:
        """Return LlamaConfig's names, most of which the others share."""
        return {
            "architectures": [f"{self.family}ForCausalLM"],
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_width,
            "hidden_size": config.width,
            "intermediate_size": config.mlp_width,
            "max_position_embeddings": config.full_context or config.context,
            "hidden_act": config.activation,
            "rms_norm_eps": config.norm_eps,
            "attention_dropout": 0.0,
            **rope_in_both_names(config),
            **self.own_names(config),
            "mygpt_dropout": config.dropout,
        }

    def from_config(self, read: Reader) -> dict[str, Any]:
        """Read them; a context that is more than mygpt can use is cut."""
        sizes = {name: read.whole(name, default) for name, default in self.sizes.items()}
        layers, heads = sizes["num_hidden_layers"], sizes["num_attention_heads"]
        head_width = read.whole("head_dim", self.head_width or sizes["hidden_size"] // heads)
        alone = not self.kv_heads or read.raw.get("num_key_value_heads", 0) is None
        full = sizes["max_position_embeddings"]
        own = self.own_parts(read, min(layers, MOST_LAYERS))  # more are refused, and not listed before
        context = min(full, LONGEST_CONTEXT, max(1, LARGEST_TABLE // max(1, head_width)))
        return {
            "vocab_size": sizes["vocab_size"],
            "layers": layers,
            "heads": heads,
            "kv_heads": read.whole("num_key_value_heads", heads if alone else self.kv_heads),
            "head_width": head_width,
            "width": sizes["hidden_size"],
            "mlp_width": sizes["intermediate_size"],
            "context": context,
            "full_context": full if full > context else 0,
            "dropout": read.number("mygpt_dropout", 0.0),
            "activation": read.word("hidden_act", "silu"),
            "norm_eps": read.number("rms_norm_eps", 1e-6),
            "tied": read.truth("tie_word_embeddings", self.tied),
            **read_rotary(read, full, self.theta),
            **own,
        }

    def own_names(self, config: ModelConfig) -> dict[str, Any]:
        """Return what only some of these models say of themselves."""
        return {"attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}

    def own_parts(self, read: Reader, layers: int) -> dict[str, Any]:
        """Read it."""
        bias = read.truth("attention_bias", False)
        return {"attention_bias": bias, "output_bias": bias, "mlp_bias": read.truth("mlp_bias", False)}

    def initialise(self, name: str, parameter: "Tensor", config: ModelConfig, rng: "torch.Generator") -> None:
        """Draw them so that every block begins as identity: a deviation of 0.02 learns more slowly."""
        draw_around_identity(name, parameter, config, rng)


def _linear(
    theirs: str, ours: str, shape: tuple[int, ...], bias: bool, rows: tuple[int, int] | None = None
) -> Iterator[Slot]:
    yield Slot(f"{theirs}.weight", f"{ours}.weight", shape, rows)
    if bias:
        yield Slot(f"{theirs}.bias", f"{ours}.bias", shape[:1], rows)

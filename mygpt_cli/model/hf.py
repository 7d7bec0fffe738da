"""Configurations and tensors, to and from Hugging Face's names for gpt2 and nanochat."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mygpt_cli.config import ARCHITECTURES, ModelConfig
from mygpt_cli.errors import CheckpointError, MygptError, join_faults
from mygpt_cli.model.gpt import GPT

HEAD = "lm_head.weight"
EMBEDDINGS = {"gpt2": "transformer.wte.weight", "nanochat": "model.embed_tokens.weight"}
# Names that GPT2Config takes for its own (its `attribute_map`).
_GENERIC = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks that old GPT-2 files carry


@dataclass(frozen=True)
class Slot:
    """One tensor of a checkpoint, and where it lives in `GPT`.

    `rows` selects a part of our tensor; `transposed` says that the file keeps it as (in, out). `ours` is
    empty for a bias that the file needs and the model does not have: the file holds zeros.
    """

    name: str
    ours: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    transposed: bool = False


def slots(config: ModelConfig) -> list[Slot]:
    """List the tensors of a checkpoint of this shape, without allocating any."""
    return list(_gpt2_slots(config) if config.arch == "gpt2" else _nanochat_slots(config))


def _gpt2_slots(cfg: ModelConfig) -> Iterator[Slot]:
    c, f = cfg.width, cfg.mlp_width
    yield Slot(EMBEDDINGS["gpt2"], "embedding", (cfg.vocab_size, c))
    yield Slot("transformer.wpe.weight", "positions", (cfg.context, c))
    for i in range(cfg.layers):
        theirs, ours = f"transformer.h.{i}", f"blocks.{i}"
        for norm, name in (("ln_1", "attention_norm"), ("ln_2", "mlp_norm")):
            yield Slot(f"{theirs}.{norm}.weight", f"{ours}.{name}.weight", (c,))
            yield Slot(f"{theirs}.{norm}.bias", f"{ours}.{name}.bias" if cfg.bias else "", (c,))
        for linear, name, shape, bias in (
            ("attn.c_attn", "attention.qkv", (c, 3 * c), cfg.attention_bias),
            ("attn.c_proj", "attention.out", (c, c), cfg.attention_bias),
            ("mlp.c_fc", "mlp.up", (c, f), cfg.bias),
            ("mlp.c_proj", "mlp.down", (f, c), cfg.bias),
        ):
            yield Slot(f"{theirs}.{linear}.weight", f"{ours}.{name}.weight", shape, transposed=True)
            yield Slot(f"{theirs}.{linear}.bias", f"{ours}.{name}.bias" if bias else "", shape[1:])
    yield Slot("transformer.ln_f.weight", "norm.weight", (c,))
    yield Slot("transformer.ln_f.bias", "norm.bias" if cfg.bias else "", (c,))
    if not cfg.tied:
        yield Slot(HEAD, "head.weight", (cfg.vocab_size, c))


def _nanochat_slots(cfg: ModelConfig) -> Iterator[Slot]:
    c, f, kv = cfg.width, cfg.mlp_width, cfg.kv_heads * cfg.head_width
    yield Slot(EMBEDDINGS["nanochat"], "embedding", (cfg.vocab_size, c))
    for i in range(cfg.layers):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        parts = (("q_proj", 0, c), ("k_proj", c, c + kv), ("v_proj", c + kv, c + 2 * kv))
        for name, first, last in parts:
            rows = (first, last)
            yield Slot(
                f"{theirs}.self_attn.{name}.weight", f"{ours}.attention.qkv.weight", (last - first, c), rows
            )
            if cfg.attention_bias:
                yield Slot(
                    f"{theirs}.self_attn.{name}.bias", f"{ours}.attention.qkv.bias", (last - first,), rows
                )
        yield Slot(f"{theirs}.self_attn.o_proj.weight", f"{ours}.attention.out.weight", (c, c))
        if cfg.attention_bias:
            yield Slot(f"{theirs}.self_attn.o_proj.bias", f"{ours}.attention.out.bias", (c,))
        yield Slot(f"{theirs}.mlp.fc1.weight", f"{ours}.mlp.up.weight", (f, c))
        yield Slot(f"{theirs}.mlp.fc2.weight", f"{ours}.mlp.down.weight", (c, f))
    if not cfg.tied:
        yield Slot(HEAD, "head.weight", (cfg.vocab_size, c))


def to_tensors(model: GPT) -> dict[str, Tensor]:
    """Return the model's weights under Hugging Face's names, contiguous and on the CPU."""
    parameters = dict(model.named_parameters())
    tensors = {}
    for slot in slots(model.config):
        if not slot.ours:
            tensors[slot.name] = torch.zeros(slot.shape)
            continue
        tensor: Tensor = parameters[slot.ours].detach().cpu()
        if slot.rows:
            tensor = tensor[slice(*slot.rows)]
        tensors[slot.name] = (tensor.T if slot.transposed else tensor).contiguous()
    return tensors


@torch.no_grad()
def fill(model: GPT, tensors: Mapping[str, Tensor]) -> None:
    """Copy checked tensors (see `check_shapes`) under Hugging Face's names into the model."""
    parameters = dict(model.named_parameters())
    for slot in slots(model.config):
        if slot.ours:
            target: Tensor = parameters[slot.ours]
            target = target[slice(*slot.rows)] if slot.rows else target
            target.copy_(tensors[slot.name].T if slot.transposed else tensors[slot.name])


def canonical_names(names: list[str], config: ModelConfig) -> dict[str, str]:
    """Map the canonical name of each tensor to its name in a file.

    Files from elsewhere may lack gpt2's `transformer.` prefix, carry mask buffers, or hold a tied head,
    beside the embedding or in its place.
    """
    canonical: dict[str, str] = {}
    bare = config.arch == "gpt2" and not any(name.startswith("transformer.") for name in names)
    for name in names:
        if config.arch == "gpt2" and name.endswith(_BUFFERS):
            continue
        canonical[f"transformer.{name}" if bare and name != HEAD else name] = name
    if config.tied and HEAD in canonical and EMBEDDINGS[config.arch] not in canonical:
        canonical[EMBEDDINGS[config.arch]] = canonical.pop(HEAD)
    return canonical


def check_shapes(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError listing every tensor that is missing, foreign or of another shape.

    A head is no fault where it is tied: `settle` looks whether it is another matrix.
    """
    expected = {slot.name: slot.shape for slot in slots(config)}
    if HEAD in shapes:
        expected[HEAD] = (config.vocab_size, config.width)
    faults = [f"'{name}' is missing" for name in expected if name not in shapes]
    faults += [f"'{name}' does not belong to this model" for name in shapes if name not in expected]
    faults += [
        f"'{name}' has shape {tuple(shapes[name])}, and config.json asks for {shape}"
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    if faults:
        shown = faults[:8] + ([f"and {len(faults) - 8} more"] if len(faults) > 8 else [])
        raise CheckpointError(
            f"the weights do not fit the configuration: {join_faults(shown)}",
            "config.json and the weights must come from the same model",
        )


def special_ids(begin: int | None, ends: Sequence[int]) -> dict[str, Any]:
    """Return how `config.json` and `generation_config.json` name the tokens that begin and end a text."""
    return {
        "bos_token_id": begin,
        "eos_token_id": list(ends) if len(ends) > 1 else next(iter(ends), None),
    }


def to_config(config: ModelConfig, begin: int | None = None, ends: Sequence[int] = ()) -> dict[str, Any]:
    """Return the contents of `config.json`."""
    common = {
        "model_type": config.arch,
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        **special_ids(begin, ends),
        "pad_token_id": None,
    }
    if config.arch == "gpt2":
        return common | {
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
            "mygpt_bias": config.bias,
            "mygpt_attention_bias": config.attention_bias,
        }
    return common | {
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
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "mygpt_dropout": config.dropout,
    }


def from_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Read `config.json`; raises CheckpointError for a kind or variant of model that mygpt does not have."""
    arch = raw.get("model_type")
    if arch not in ARCHITECTURES:
        raise CheckpointError(
            f"config.json describes a model of type {arch!r}",
            f"mygpt opens {' and '.join(ARCHITECTURES)} models",
        )
    read = _Reader(_with_own_names(raw) if arch == "gpt2" else raw)
    try:
        config = _from_gpt2(read) if arch == "gpt2" else _from_nanochat(read)
    except CheckpointError:
        raise
    except MygptError as error:
        raise CheckpointError(f"config.json: {error.message}") from None
    if read.faults:
        raise CheckpointError(
            f"config.json: {join_faults(read.faults)}", "mygpt has no such variant of this model"
        )
    return config


def _with_own_names(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Put GPT2Config's own names in place of the generic ones; CheckpointError where they contradict."""
    own = dict(raw)
    for generic, name in _GENERIC.items():
        if generic in own:
            value = own.pop(generic)
            if own.setdefault(name, value) != value:
                raise CheckpointError(
                    f"config.json: {name} is {own[name]!r}, and {generic}, its other name, is {value!r}",
                    "remove the one that is wrong",
                )
    return own


class _Reader:
    """Reads typed values and collects what is wrong."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.faults: list[str] = []

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.raw.get(name, default)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise CheckpointError(f"config.json: {name} must be a positive whole number, not {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.raw.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not -1e300 < value < 1e300:
            raise CheckpointError(f"config.json: {name} must be a number, not {value!r}")
        return float(value)

    def truth(self, name: str, default: bool) -> bool:
        value = self.raw.get(name, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"config.json: {name} must be true or false, not {value!r}")
        return value

    def word(self, name: str, default: str) -> str:
        value = self.raw.get(name, default)
        if not isinstance(value, str):
            raise CheckpointError(f"config.json: {name} must be a text, not {value!r}")
        return value

    def only(self, name: str, allowed: Any) -> None:
        """Note a fault unless the value is absent or the only one that mygpt has."""
        if self.raw.get(name, allowed) != allowed:
            self.faults.append(f"{name} = {self.raw[name]!r} is not supported")


def _from_gpt2(read: _Reader) -> ModelConfig:
    read.only("add_cross_attention", False)
    width = read.whole("n_embd", 768)
    return ModelConfig(
        arch="gpt2",
        vocab_size=read.whole("vocab_size", 50257),
        layers=read.whole("n_layer", 12),
        heads=read.whole("n_head", 12),
        width=width,
        context=read.whole("n_positions", 1024),
        dropout=read.number("resid_pdrop", 0.1),
        mlp_width=read.whole("n_inner", 4 * width),
        activation=read.word("activation_function", "gelu_new"),
        norm_eps=read.number("layer_norm_epsilon", 1e-5),
        tied=read.truth("tie_word_embeddings", True),
        bias=read.truth("mygpt_bias", True),
        attention_bias=read.truth("mygpt_attention_bias", True),
        scale_by_width=read.truth("scale_attn_weights", True),
        scale_by_layer=read.truth("scale_attn_by_inverse_layer_idx", False),
    )


def _from_nanochat(read: _Reader) -> ModelConfig:
    rope = read.raw.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise CheckpointError(f"config.json: rope_parameters must be an object, not {rope!r}")
    if rope.get("rope_type", "default") != "default":
        read.faults.append(f"rope_type = {rope['rope_type']!r} is not supported")
    heads = read.whole("num_attention_heads", 6)
    return ModelConfig(
        arch="nanochat",
        vocab_size=read.whole("vocab_size", 50304),
        layers=read.whole("num_hidden_layers", 12),
        heads=heads,
        width=read.whole("hidden_size", 768),
        context=read.whole("max_position_embeddings", 2048),
        dropout=read.number("mygpt_dropout", 0.0),
        kv_heads=read.whole("num_key_value_heads", heads),
        mlp_width=read.whole("intermediate_size", 8192),
        activation=read.word("hidden_act", "relu2"),
        norm_eps=read.number("rms_norm_eps", 1e-6),
        tied=read.truth("tie_word_embeddings", False),
        bias=False,
        attention_bias=read.truth("attention_bias", False),
        rope_theta=_Reader(rope).number("rope_theta", read.number("rope_theta", 10000.0)),
        softcap=0.0
        if read.raw.get("final_logit_softcapping", 15.0) is None
        else read.number("final_logit_softcapping", 15.0),
    )


def settle(config: ModelConfig, tensors: Mapping[str, Tensor]) -> ModelConfig:
    """Return the configuration that checked tensors have, where it is more than `config.json` says.

    Biases come back that were trained elsewhere after mygpt saved a gpt2 model without. A head that is not
    the embedding it should be tied to is a head of its own, as in transformers from version 5 on.
    """
    missing = [slot.name for slot in slots(config) if not slot.ours]
    if any(bool(tensors[name].any()) for name in missing):
        config = replace(config, bias=True, attention_bias=True)
    if config.tied and HEAD in tensors:
        embedding, head = tensors[EMBEDDINGS[config.arch]], tensors[HEAD]
        if not torch.equal(embedding.to(torch.float32), head.to(torch.float32)):
            config = replace(config, tied=False)
    return config

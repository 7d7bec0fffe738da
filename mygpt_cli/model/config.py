"""What a model is made of: its shape, and parts of which none follows from another."""

import math
from dataclasses import dataclass

from mygpt_cli.base.errors import UsageError, did_you_mean

POSITIONS = ("learned", "rotary")
NORMS = ("layer", "rms")
SCALINGS = ("linear", "llama3")
QK_NORMS = ("none", "before", "after")  # the rotation
ACTIVATIONS = ("relu2", "gelu_new", "gelu", "relu", "silu")
# Further names of Hugging Face's for the same functions; they differ by rounding at most.
SYNONYMS = {
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_python": "gelu",
    "swish": "silu",
}
LONGEST_CONTEXT = 2**18
MOST_LAYERS = 1000
LARGEST_TABLE = 2**24  # rotary angles: for each position, as many as a head is wide


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How the rotary angles of a model are slowed down for contexts longer than those it first learned from.

    `linear` divides every frequency by the factor (Chen et al., 2023, arXiv:2306.15595). `llama3` (Llama 3.1)
    does so for pairs of channels that rotate fewer than `low_freq_factor` times within the
    `original_context`, leaves those alone that rotate more than `high_freq_factor` times, and blends between.
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 1

    def faults(self) -> list[str]:
        """List everything that is wrong with it."""
        if self.kind not in SCALINGS:
            return [f"rope scaling must be one of {', '.join(SCALINGS)}, not '{self.kind}'"]
        faults = []
        if not 1.0 <= self.factor < 1e6:
            faults.append(f"the factor of rope scaling must be at least 1 and below 1e6, not {self.factor}")
        if not 0.0 < self.low_freq_factor < self.high_freq_factor < 1e6:
            low, high = self.low_freq_factor, self.high_freq_factor
            faults.append(
                f"low_freq_factor must be above 0 and below high_freq_factor, and that below 1e6, "
                f"not {low} and {high}"
            )
        if self.original_context < 1:
            faults.append(
                f"the original context of rope scaling must be at least 1, not {self.original_context}"
            )
        return faults


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A GPT by its parts; raises UsageError listing everything that is wrong with it.

    `arch` names the architecture of which this is a model. Positions are `learned` vectors or a `rotary`
    angle of queries and keys (Su et al., 2021), but in the `unrotated` layers; nanochat rotates clockwise. In
    the `windowed` layers attention looks at the last `window` tokens. Layers are counted from 0.
    `full_context` is what the model was made for, where `context` is less. The norm is `layer` (Ba et al.,
    2016) or `rms` (Zhang and Sennrich, 2019), with a learned gain and bias or without. Queries and keys may
    have an RMSNorm of their own, before or after the rotation. The feed-forward part is plain or `gated`
    (Shazeer, 2020). Scores of attention are divided by the square root of the head width and, with
    `scale_by_layer`, by the number of the layer (Karamcheti et al., 2021).
    """

    arch: str
    vocab_size: int
    layers: int
    heads: int
    width: int
    context: int
    dropout: float = 0.0
    kv_heads: int = 0  # 0: as many as heads
    head_width: int = 0  # 0: width / heads
    mlp_width: int = 0  # 0: four times the width
    positions: str
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    rope_clockwise: bool = False
    unrotated: tuple[int, ...] = ()
    norm: str
    norm_gain: bool
    norm_bias: bool
    norm_eps: float
    embedding_norm: bool = False
    qk_norm: str = "none"
    qk_norm_gain: bool = False
    activation: str
    gated: bool = False
    mlp_bias: bool = False
    attention_bias: bool = False  # of queries, keys and values
    output_bias: bool = False  # of what attention adds to the stream
    tied: bool
    softcap: float = 0.0  # 0: logits are not capped
    scale_by_width: bool = True
    scale_by_layer: bool = False
    window: int = 0
    windowed: tuple[int, ...] = ()
    full_context: int = 0  # 0: the context

    def __post_init__(self) -> None:
        own_heads = self.head_width > 0
        sizes = {"kv_heads": self.heads, "mlp_width": 4 * self.width}
        if self.heads > 0:
            sizes["head_width"] = self.width // self.heads
        for name, size in sizes.items():
            if getattr(self, name) == 0:
                object.__setattr__(self, name, size)
        if faults := self._faults(own_heads=own_heads):
            raise UsageError(faults, "`mygpt train --help-all` lists the settings of a model")

    @property
    def nonlinearity(self) -> str:
        """The function that `activation` names, one of ACTIVATIONS."""
        return SYNONYMS.get(self.activation, self.activation)

    @property
    def scales_queries(self) -> bool:
        """Whether scores of attention are scaled by anything else than the head width."""
        return self.scale_by_layer or not self.scale_by_width

    def query_scale(self, layer: int) -> float:
        """Return what queries of a layer, from 0, are multiplied with before 1 / sqrt(head width)."""
        scale = 1.0 if self.scale_by_width else math.sqrt(self.head_width)
        return scale / (layer + 1) if self.scale_by_layer else scale

    def window_of(self, layer: int) -> int:
        """Return how many tokens the attention of a layer, from 0, looks at; 0 for all."""
        return self.window if layer in self.windowed else 0

    @property
    def within_windows(self) -> int:
        """The longest text of which every layer sees all, so that windows make no difference."""
        return min(self.context, self.window) if self.windowed else self.context

    def _faults(self, *, own_heads: bool) -> list[str]:
        faults = [
            f"{name} must be one of {', '.join(known)}, not '{getattr(self, name)}'"
            for name, known in (("positions", POSITIONS), ("norm", NORMS), ("qk_norm", QK_NORMS))
            if getattr(self, name) not in known
        ]
        if self.nonlinearity not in ACTIVATIONS:
            known = (*ACTIVATIONS, *SYNONYMS)
            faults.append(f"unknown activation '{self.activation}'{did_you_mean(self.activation, known)}")
        sizes = ("vocab_size", "layers", "heads", "width", "context", "kv_heads", "head_width", "mlp_width")
        faults += [
            f"{name} must be at least 1, not {getattr(self, name)}"
            for name in sizes
            if getattr(self, name) < 1
        ]
        faults += [
            f"{name} must be at most {most:,}, not {getattr(self, name):,}"
            for name, most in (("context", LONGEST_CONTEXT), ("layers", MOST_LAYERS))
            if getattr(self, name) > most
        ]
        if not 0.0 <= self.dropout < 1.0:
            faults.append(f"dropout must be at least 0 and below 1, not {self.dropout}")
        if not 0.0 < self.norm_eps < 1.0:
            faults.append(f"norm_eps must be between 0 and 1, not {self.norm_eps}")
        if not 1.0 < self.rope_theta < 1e12:
            faults.append(f"rope_theta must be between 1 and 1e12, not {self.rope_theta}")
        if not 0.0 <= self.softcap < 1e6:
            faults.append(f"softcap must be at least 0 and below 1e6, not {self.softcap}")
        faults += self.rope_scaling.faults() if self.rope_scaling else []
        if faults:
            return faults
        rotary = self.positions == "rotary"
        if not own_heads:
            faults += shape_faults(self.width, self.heads, even=rotary)
        elif rotary and self.head_width % 2:
            faults.append(f"rotary positions need an even head width, not {self.head_width}")
        if self.heads % self.kv_heads:
            faults.append(f"{self.heads} heads cannot share {self.kv_heads} key/value heads evenly")
        if rotary and self.context * self.head_width > LARGEST_TABLE:
            faults.append(
                f"context {self.context:,} × head width {self.head_width:,} is more than {LARGEST_TABLE:,}"
            )
        if self.qk_norm == "after" and not rotary:
            faults.append("a norm of queries and keys after the rotation needs rotary positions")
        if self.windowed and self.window < 1:
            faults.append(f"window must be at least 1 where layers are windowed, not {self.window}")
        if not {*self.windowed, *self.unrotated} <= {*range(self.layers)}:
            faults.append("windowed and unrotated must name layers that there are")
        return faults


def shape_faults(width: int, heads: int, *, even: bool) -> list[str]:
    """Say why heads of this number cannot share this width, or nothing.

    Rotary positions turn channels in pairs: heads must be of `even` width.
    """
    unit = 2 * heads if even else heads
    near = max(1, round(width / unit)) * unit
    if width % heads:
        return [f"width {width} is not divisible by {heads} heads (width {near} is)"]
    if width % unit:
        uneven = f"{width} / {heads} = {width // heads}"
        return [f"rotary positions need an even head width, not {uneven} (width {near} gives one)"]
    return []

"""The GPT, from token ids to logits, by the parts that its configuration names.

Shapes: B batch, T time (new tokens), S time (all keys, cached ones included), C channels, H heads,
K key/value heads, D head width, F feed-forward width, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mygpt_cli.model.architectures import find
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.kv_cache import KVCache
from mygpt_cli.model.masks import DropoutMasks

Rotary = tuple[Tensor, Tensor] | None  # cosines and sines, 2 × (T, D/2)


class Linear(nn.Module):
    """A linear layer that computes in the type of its input, whatever type its weights are kept in."""

    def __init__(self, fan_in: int, fan_out: int, bias: bool | None = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in))
        self.bias = nn.Parameter(torch.empty(fan_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., fan_in) to (..., fan_out)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class Norm(nn.Module):
    """LayerNorm or RMSNorm over the last axis, with a learned gain and bias or without.

    Ba et al., 2016 (arXiv:1607.06450); Zhang and Sennrich, 2019 (arXiv:1910.07467).
    """

    def __init__(self, kind: str, width: int, eps: float, *, gain: bool, bias: bool = False) -> None:
        super().__init__()
        self.kind, self.eps = kind, eps
        self.weight = nn.Parameter(torch.empty(width)) if gain else None
        self.bias = nn.Parameter(torch.empty(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of (..., C)."""
        shape = (x.size(-1),)
        gain, bias = (p if p is None else p.to(x.dtype) for p in (self.weight, self.bias))
        if self.kind == "layer":
            return F.layer_norm(x, shape, gain, bias, self.eps)
        normed = F.rms_norm(x, shape, gain, self.eps)
        return normed if bias is None else normed + bias


def stream_norm(config: ModelConfig) -> Norm:
    """Return a norm of the residual stream (..., C)."""
    return Norm(config.norm, config.width, config.norm_eps, gain=config.norm_gain, bias=config.norm_bias)


class Attention(nn.Module):
    """Causal self-attention (Vaswani et al., 2017)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.query_scale = config.query_scale(layer)
        self.rotates = layer not in config.unrotated
        rows = (config.heads + 2 * config.kv_heads) * config.head_width
        self.qkv = Linear(config.width, rows, config.attention_bias)
        self.out = Linear(config.heads * config.head_width, config.width, config.output_bias)
        self.query_norm = self.key_norm = None
        if config.qk_norm != "none":
            self.query_norm, self.key_norm = (
                Norm("rms", config.head_width, config.norm_eps, gain=config.qk_norm_gain) for _ in range(2)
            )
        self.sdpa = ScaledDotProductAttention(config.window_of(layer))

    def forward(self, x: Tensor, rotary: Rotary, layer: int, cache: KVCache | None) -> Tensor:
        """Let every position of (B, T, C) gather from itself and those before it."""
        q, k, v = self.project(x, rotary)
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # 2 × (B, K, S, D)
        return self.merge(self.sdpa(q, k, v))

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries (B, H, T, D), keys and values (B, K, T, D) of (B, T, C)."""
        cfg = self.config
        b, t, _ = x.shape
        heads = self.qkv(x).view(b, t, cfg.heads + 2 * cfg.kv_heads, cfg.head_width).transpose(1, 2)
        q, k, v = heads.split(
            [cfg.heads, cfg.kv_heads, cfg.kv_heads], dim=1
        )  # (B, H, T, D), 2 × (B, K, T, D)
        if self.query_norm and self.key_norm and cfg.qk_norm == "before":
            q, k = self.query_norm(q), self.key_norm(k)
        if rotary is not None and self.rotates:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        if self.query_norm and self.key_norm and cfg.qk_norm == "after":
            q, k = self.query_norm(q), self.key_norm(k)
        return q if self.query_scale == 1.0 else q * self.query_scale, k, v

    def merge(self, y: Tensor) -> Tensor:
        """Lay what the heads gathered (B, H, T, D) side by side and mix it: (B, T, C)."""
        b, _, t, _ = y.shape
        mixed: Tensor = self.out(y.transpose(1, 2).reshape(b, t, -1))
        return mixed


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (d, d + D/2) of (B, H, T, D) by each position's angles, two (T, D/2) tables.

    Su et al., 2021 (arXiv:2104.09864). The direction is nanochat's, clockwise: sines with their sign changed
    rotate the other way, as everyone else does.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


class ScaledDotProductAttention(nn.Module):
    """What the heads gather; a module, so that it can be watched.

    A token looks at the last `window` tokens up to itself (Beltagy et al., 2020, arXiv:2004.05150), or, where
    that is 0, at all of them.
    """

    def __init__(self, window: int = 0) -> None:
        super().__init__()
        self.window = window

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weigh the values (B, K, S, D) by the match of queries (B, H, T, D) and keys; the last T are new.

        While gradients are recorded on a CPU, plain matrix products beat torch's fused attention, whose
        backward pass is slow at short contexts.
        """
        k, v = repeat_kv(k, q.size(1)), repeat_kv(v, q.size(1))
        if q.requires_grad and q.device.type == "cpu":
            return attention_weights(q, k, self.window) @ v
        t, s, size = q.size(-2), k.size(-2), self.window
        if not size or s <= size:
            return self._gather(q, k, v, 0)
        gathered = []
        for first in range(0, t, size):  # as many queries at once, of which the masks are small
            end = s - t + min(first + size, t)
            keys = slice(max(0, s - t + first + 1 - size), end)
            gathered.append(
                self._gather(q[..., first : first + size, :], k[..., keys, :], v[..., keys, :], size)
            )
        return torch.cat(gathered, dim=-2)

    def _gather(self, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        t, s = q.size(-2), k.size(-2)
        if t == 1 or (t == s and (not window or s <= window)):
            return F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible(t, s, window, q.device))


def repeat_kv(x: Tensor, heads: int) -> Tensor:
    """Repeat keys or values (B, K, S, D) for the heads that share them: (B, H, S, D)."""
    return x if x.size(1) == heads else x.repeat_interleave(heads // x.size(1), dim=1)


def visible(t: int, s: int, window: int, device: torch.device) -> Tensor:
    """Return which of S tokens the last T look at (T, S): those up to itself, or the last of a window."""
    earlier = torch.ones(t, s, dtype=torch.bool, device=device).tril(s - t)
    return earlier.triu(s - t + 1 - window) if window else earlier


def attention_weights(q: Tensor, k: Tensor, window: int = 0) -> Tensor:
    """Return how queries (B, H, T, D) weigh keys (B, K, S, D): (B, H, T, S), each row adding up to 1."""
    k = repeat_kv(k, q.size(1))
    unseen = ~visible(q.size(-2), k.size(-2), window, q.device)
    scores = (q * q.size(-1) ** -0.5) @ k.transpose(-2, -1)  # (B, H, T, S)
    return torch.softmax(scores.masked_fill(unseen, -math.inf), dim=-1)


def rows_at_once(vocab_size: int) -> int:
    """Return for how many tokens to make logits at once, so that they take 64 MB at most."""
    return max(1, min(4096, 2**24 // vocab_size))


class MLP(nn.Module):
    """The feed-forward part: widen, activate, narrow; gated, with a second widening as a factor."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.nonlinearity
        self.gate = Linear(config.width, config.mlp_width, config.mlp_bias) if config.gated else None
        self.up = Linear(config.width, config.mlp_width, config.mlp_bias)
        self.down = Linear(config.mlp_width, config.width, config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C) through (B, T, F)."""
        narrowed: Tensor = self.down(self.units(x))
        return narrowed

    def units(self, x: Tensor) -> Tensor:
        """Map (..., C) to the activated units (..., F)."""
        if self.gate is None:
            return activate(self.up(x), self.activation)
        gated: Tensor = activate(self.gate(x), self.activation) * self.up(x)
        return gated


def activate(x: Tensor, name: str) -> Tensor:
    """Apply `relu2` (So et al., 2021), `gelu_new` (the tanh form of GPT-2), `gelu`, `relu` or `silu`."""
    if name == "relu2":
        return F.relu(x).square()
    if name == "relu":
        return F.relu(x)
    if name == "silu":
        return F.silu(x)
    return F.gelu(x, approximate="tanh" if name == "gelu_new" else "none")


def dropout(x: Tensor, mask: Tensor | None) -> Tensor:
    """Multiply with a mask, when there is dropout."""
    return x if mask is None else x * mask


class Block(nn.Module):
    """One layer: attention, then feed-forward, each on a normalised copy and added back."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention_norm = stream_norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = stream_norm(config)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        rotary: Rotary,
        cache: KVCache | None = None,
        masks: Sequence[Tensor | None] = (None, None),
    ) -> Tensor:
        """Map the residual stream (B, T, C) to the next one; a mask is for what either half adds."""
        x = x + dropout(self.attention(self.attention_norm(x), rotary, self.layer, cache), masks[0])
        return x + dropout(self.mlp(self.mlp_norm(x)), masks[1])


class GPT(nn.Module):
    """A decoder-only transformer; its weights are undefined until `initialise` or a checkpoint fills them.

    `compute_dtype` is the type of the activations and matrix products; weights keep their own. Where they are
    `mapped`, the matrices of its layers are a file's, and not to be written.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.mapped = False
        self.cos: Tensor
        self.sin: Tensor
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.width))
        learned = config.positions == "learned"
        self.positions = nn.Parameter(torch.empty(config.context, config.width)) if learned else None
        self.embedding_norm = None
        if config.embedding_norm:
            self.embedding_norm = Norm(config.norm, config.width, config.norm_eps, gain=False)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = stream_norm(config)
        self.head = None if config.tied else Linear(config.width, config.vocab_size)
        if config.positions == "rotary":
            cos, sin = rotary_tables(config)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        ids: Tensor,
        *,
        cache: KVCache | None = None,
        masks: Sequence[Tensor] | None = None,
        targets: Tensor | None = None,
    ) -> Tensor:
        """Map token ids (B, T) to float32 logits (B, T, V) for the token after each.

        With a cache, the ids follow those already in it. Masks (B, T, C) are for dropout: of the embedding,
        then of what each half of a block adds. Given targets (B, T), it returns their mean cross-entropy in
        nats instead, with few rows of logits at once.
        """
        hidden = self.hidden(ids, cache=cache, masks=masks)
        if targets is None:
            return self.unembed(hidden)
        rows = rows_at_once(self.config.vocab_size)
        parts = zip(
            torch.split(hidden.flatten(0, 1), rows), torch.split(targets.flatten(), rows), strict=True
        )
        nats = [F.cross_entropy(self.unembed(part), own, reduction="sum") for part, own in parts]
        return torch.stack(nats).sum() / targets.numel()

    def loss(
        self,
        ids: Tensor,
        targets: Tensor,
        masks: DropoutMasks | None = None,
        forward: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """Return the mean cross-entropy in nats of predicting targets (B, T) from ids (B, T).

        `forward` may be the model compiled.
        """
        # Masks are drawn beforehand: that cannot be compiled.
        count, shape = 1 + 2 * self.config.layers, (*ids.shape, self.config.width)
        drawn = [masks.draw(*shape) for _ in range(count)] if masks else None
        logits = (self if forward is None else forward)(ids, masks=drawn)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def hidden(
        self, ids: Tensor, *, cache: KVCache | None = None, masks: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Map token ids (B, T) to the final normalised residual stream (B, T, C)."""
        start = 0 if cache is None else cache.length
        x, rotary = self.add_positions(self.embed(ids), start)
        x = self.run_blocks(x, rotary, cache=cache, masks=masks)
        if cache is not None:
            cache.length = start + ids.size(1)
        normed: Tensor = self.norm(x)
        return normed

    def run_blocks(
        self,
        x: Tensor,
        rotary: Rotary,
        *,
        first: int = 0,
        cache: KVCache | None = None,
        masks: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Map the residual stream (B, T, C) before the `first` block to that after the last."""
        drop: Sequence[Tensor | None] = masks or [None] * (1 + 2 * len(self.blocks))
        x = dropout(x, drop[0])
        for block, *halves in list(zip(self.blocks, drop[1::2], drop[2::2], strict=True))[first:]:
            x = block(x, rotary, cache, halves)
        return x

    def embed(self, ids: Tensor) -> Tensor:
        """Look up the vectors (B, T, C) of token ids (B, T)."""
        return F.embedding(ids, self.embedding).to(self.compute_dtype)

    def add_positions(self, x: Tensor, start: int = 0) -> tuple[Tensor, Rotary]:
        """Add positions, from `start` on, to vectors (B, T, C), or return the tables for `rotate`.

        A norm of the embedding comes last.
        """
        end = start + x.size(1)
        if self.positions is not None:
            x = x + self.positions[start:end].to(x.dtype)
        return (x if self.embedding_norm is None else self.embedding_norm(x)), self.rotary(start, end)

    def rotary(self, start: int, end: int) -> Rotary:
        """Return the tables for `rotate` at these positions, where they are rotary."""
        if self.config.positions != "rotary":
            return None
        return self.cos[start:end].to(self.compute_dtype), self.sin[start:end].to(self.compute_dtype)

    def unembed(self, hidden: Tensor) -> Tensor:
        """Map the final residual stream (..., C) to float32 logits (..., V)."""
        return self.softcap(self.score(hidden))

    def score(self, hidden: Tensor) -> Tensor:
        """Match the final residual stream (..., C) with every token: float32 logits (..., V) before a cap."""
        weight = self.embedding if self.head is None else self.head.weight
        return F.linear(hidden, weight.to(hidden.dtype)).float()

    def softcap(self, logits: Tensor) -> Tensor:
        """Squeeze logits softly between minus and plus the cap, where there is one."""
        cap = self.config.softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def new_cache(self, batch_size: int, length: int | None = None) -> KVCache:
        """Allocate an empty key/value cache for this many sequences, by default of a whole context."""
        cfg = self.config
        shape = (cfg.layers, batch_size, cfg.kv_heads, length or cfg.context, cfg.head_width)
        return KVCache(shape, dtype=self.compute_dtype, device=self.embedding.device)

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Draw fresh weights from the generator, as the architecture does; biases are 0 and gains 1."""
        architecture = find(self.config.arch)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif name.endswith("norm.weight"):
                parameter.fill_(1.0)
            else:
                architecture.initialise(name, parameter, self.config, rng)


def rotary_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (T, D/2) of the angle of each position and channel pair, for `rotate`."""
    angles = torch.arange(config.context, dtype=torch.float32)[:, None] * rotary_frequencies(config)
    sines = angles.sin()
    return angles.cos(), sines if config.rope_clockwise else sines.neg_()


def rotary_frequencies(config: ModelConfig) -> Tensor:
    """Return the angles (D/2) by which channel pairs rotate from one position to the next."""
    steps = torch.arange(0, config.head_width, 2, dtype=torch.float32) / config.head_width
    frequencies: Tensor = 1.0 / config.rope_theta**steps
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    slowed = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slowed
    rotations = scaling.original_context * frequencies / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    return torch.lerp(slowed, frequencies, ((rotations - low) / (high - low)).clamp(0.0, 1.0))

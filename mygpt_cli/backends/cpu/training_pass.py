"""The training pass on a CPU, its gradient written out around `kernels.c` and products of torch.

At these sizes most of a step goes into moving numbers between the products; automatic differentiation moves
far more of them than the gradient needs. `tests/backends/cpu/test_training_pass.py` holds this pass to `GPT`
differentiated by torch.

B sequences of T tokens make N = B·T rows of C channels; H heads of D channels; F feed-forward width;
V vocabulary.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.masks import Masks

if TYPE_CHECKING:
    from mygpt_cli.backends.cpu.kernels import Kernels
    from mygpt_cli.model.gpt import GPT

ACTIVATIONS = ("relu", "relu2", "gelu_new")  # in the order of `kernels.c`


def applies(model: "GPT") -> bool:
    """Whether this model trains here: compiled for a CPU, of parts that the pass has."""
    kernels = model.kernels
    return (
        kernels is not None
        and kernels.dtype == model.compute_dtype
        and takes(model.config)
        and model.embedding.device.type == "cpu"
        and model.embedding.dtype == torch.float32
    )


def takes(config: ModelConfig) -> bool:
    """Whether the pass has all parts of such a model."""
    layer_norm = config.norm == "layer" and config.norm_gain
    rms_norm = config.norm == "rms" and not config.norm_gain and not config.norm_bias
    unnormed_heads = config.positions == "learned" and config.qk_norm == "none"
    normed_heads = config.positions == "rotary" and config.qk_norm == "after" and not config.qk_norm_gain
    return (
        (layer_norm or rms_norm)
        and (rms_norm or not config.embedding_norm)
        and (unnormed_heads or normed_heads)
        and not config.gated
        and config.nonlinearity in ACTIVATIONS
        and not config.scales_queries
        and not config.unrotated
        and config.kv_heads == config.heads
        and config.heads * config.head_width == config.width
    )


@torch.no_grad()
def loss(model: "GPT", ids: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of predicting targets (B, T) from ids (B, T)."""
    return Pass(model, ids, None).forward(targets)


@torch.no_grad()
def learn(model: "GPT", ids: Tensor, targets: Tensor, masks: Masks | None, share: float) -> Tensor:
    """Add the gradient of `share` times the loss to that of each parameter, and return that much."""
    one = Pass(model, ids, masks)
    total = one.forward(targets, share)
    for name, gradient in one.backward().items():
        parameter = one.learned[name]
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return total


@dataclass
class Norm:
    """A sum (N, C) on the residual stream, and what came of it; LayerNorm has means, RMSNorm has none."""

    name: str
    sum: Tensor
    normed: Tensor
    means: Tensor | None
    scales: Tensor
    mask: Tensor | None


@dataclass
class Attention:
    """Rows of queries, keys and values (N, 3C), and what they mix (N, C); the rest is as in `attention.h`."""

    rows: Tensor
    scales: Tensor
    levels: Tensor
    mixed: Tensor


# What the feed-forward part needs for the way back (N, F): what came before its activation and after it, or
# nothing where it is made anew.
Inside = tuple[Tensor, Tensor] | None


class Pass:
    """One pass over a batch: `forward`, then `backward` once."""

    def __init__(self, model: "GPT", ids: Tensor, masks: Masks | None) -> None:
        config, dtype = model.config, model.compute_dtype
        self.kernels = cast("Kernels", model.kernels)
        self.config, self.dtype, self.masks = config, dtype, masks
        self.ids = ids.flatten()
        self.shape = (*ids.shape, config.heads, config.head_width)  # B, T, H, D
        self.learned = dict(model.named_parameters())
        self.parameters = {name: p.detach() for name, p in self.learned.items()}
        matrices = (name for name, p in self.parameters.items() if p.ndim == 2 and name != "positions")
        self.weights = {name: self.parameters[name].to(dtype) for name in matrices}
        self.head = "embedding" if config.tied else "head.weight"
        rotary = config.positions == "rotary"
        self.cos = model.cos if rotary else None
        self.sin = model.sin if rotary else None
        self._activation = ACTIVATIONS.index(config.nonlinearity)
        self.gradients: dict[str, Tensor] = {}

    def forward(self, targets: Tensor, share: float = 1.0) -> Tensor:
        """Return `share` times the mean loss for targets (B, T)."""
        config, n = self.config, self.ids.numel()
        branch = F.embedding(self.ids, self.parameters["embedding"])  # (N, C)
        if config.positions == "learned":
            b, t, *_ = self.shape
            branch = (branch.view(b, t, -1) + self.parameters["positions"][:t]).flatten(0, 1)
        branch = branch.to(self.dtype)
        x = None
        if config.embedding_norm:
            self.embedded = self._norm(None, branch, "", masked=False)
            branch = self.embedded.normed
        self.layers: list[tuple[Norm, Attention, Norm, Inside]] = []
        for layer in range(config.layers):
            block = f"blocks.{layer}"
            before = self._norm(x, branch, f"{block}.attention_norm")
            attention = self._attend(before.normed, f"{block}.attention.qkv")
            branch = self._linear(attention.mixed, f"{block}.attention.out")
            between = self._norm(before.sum, branch, f"{block}.mlp_norm")
            branch, inside = self._mlp(between.normed, f"{block}.mlp")
            x = between.sum
            self.layers.append((before, attention, between, inside))
        self.final = self._norm(x, branch, "norm")
        # (N, V), from here on their gradient
        self.logits = self.kernels.linear(self.final.normed, self.weights[self.head])
        losses = torch.empty(n)
        vocab, rows = config.vocab_size, targets.flatten()
        room = self.kernels.room("cross_entropy", vocab, n)
        self.kernels("cross_entropy", self.logits, rows, losses, *room, n, vocab, config.softcap, share / n)
        return losses.mean() * share

    def backward(self) -> dict[str, Tensor]:
        """Return the gradient of what `forward` returned by each parameter."""
        config = self.config
        inner = self._matrix_backward(self.logits, self.final.normed, self.head)
        grad, branch = self._norm_backward(self.final, inner, None)
        for layer in reversed(range(config.layers)):
            block = f"blocks.{layer}"
            before, attention, between, inside = self.layers.pop()
            inner = self._mlp_backward(branch, between.normed, inside, f"{block}.mlp")
            grad, branch = self._norm_backward(between, inner, grad)
            inner = self._linear_backward(branch, attention.mixed, f"{block}.attention.out")
            inner = self._attend_backward(inner, attention)
            inner = self._linear_backward(inner, before.normed, f"{block}.attention.qkv")
            grad, branch = self._norm_backward(before, inner, grad)
        if config.embedding_norm:
            branch, _ = self._norm_backward(self.embedded, branch, None)
        embedding = torch.zeros(config.vocab_size, config.width).index_add_(0, self.ids, branch.float())
        self._add("embedding", embedding)
        if config.positions == "learned":
            positions = torch.zeros(config.context, config.width)
            positions[: self.shape[1]] = branch.view(*self.shape[:2], -1).sum(0, dtype=torch.float32)
            self._add("positions", positions)
        return self.gradients

    def _add(self, name: str, gradient: Tensor) -> None:
        gradient = gradient.float()
        self.gradients[name] = self.gradients[name] + gradient if name in self.gradients else gradient

    def _linear(self, x: Tensor, name: str) -> Tensor:
        bias = self.parameters.get(f"{name}.bias")
        y = self.kernels.linear(x, self.weights[f"{name}.weight"])
        return y if bias is None else y.add_(bias.to(self.dtype))

    def _linear_backward(self, grad: Tensor, x: Tensor, name: str) -> Tensor:
        if f"{name}.bias" in self.parameters:
            self._add(f"{name}.bias", grad.sum(0, dtype=torch.float32))
        return self._matrix_backward(grad, x, f"{name}.weight")

    def _matrix_backward(self, grad: Tensor, x: Tensor, name: str) -> Tensor:
        before, of_weight = self.kernels.linear_backward(grad, x, self.weights[name])
        self._add(name, of_weight)
        return before

    def _mlp(self, x: Tensor, name: str) -> tuple[Tensor, Inside]:
        """Return what the feed-forward part gives (N, C), and what the way back needs from between."""
        up, down = self._mlp_weights(name)
        if self.kernels.takes(up) and not self.config.mlp_bias:
            return self.kernels.mlp(x, up, down, self._activation), None
        wide = self._linear(x, f"{name}.up")  # (N, F)
        active = torch.empty_like(wide)
        self.kernels("activate", wide, active, self._activation, wide.numel())
        return self._linear(active, f"{name}.down"), (wide, active)

    def _mlp_backward(self, grad: Tensor, x: Tensor, inside: Inside, name: str) -> Tensor:
        if inside is None:
            weights = self._mlp_weights(name)
            before, of_up, of_down = self.kernels.mlp_backward(grad, x, *weights, self._activation)
            self._add(f"{name}.up.weight", of_up)
            self._add(f"{name}.down.weight", of_down)
            return before
        wide, active = inside
        inner = self._linear_backward(grad, active, f"{name}.down")
        self.kernels("activate_backward", inner, wide, self._activation, wide.numel())
        return self._linear_backward(inner, x, f"{name}.up")

    def _mlp_weights(self, name: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{name}.up.weight"], self.weights[f"{name}.down.weight"]

    def _norm(self, x: Tensor | None, branch: Tensor, name: str, *, masked: bool = True) -> Norm:
        """Add to the residual stream (N, C) what a branch gives, under its dropout, and normalise the sum."""
        n, c = branch.shape
        mask = self.masks.draw(n, c) if self.masks and masked else None
        gain, bias = (self.parameters.get(f"{name}.{part}") for part in ("weight", "bias"))
        total = branch if x is None and mask is None else torch.empty_like(branch)
        norm = Norm(name, total, torch.empty_like(branch), None, torch.empty(n), mask)
        if gain is not None:
            norm.means = torch.empty(n)
        out = None if total is branch else total
        tensors = (x, branch, mask, out, norm.normed, norm.means, norm.scales, gain, bias)
        self.kernels("add_norm", *tensors, n, c, self.config.norm_eps)
        return norm

    def _norm_backward(self, norm: Norm, grad: Tensor, later: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the gradients (N, C) of the residual stream and of the branch that was added to it.

        `grad` is that of the normalised sum, `later` what the sum's other way onward has brought.
        """
        n, c = grad.shape
        gain = self.parameters.get(f"{norm.name}.weight")
        by_thread = None if gain is None else torch.zeros(torch.get_num_threads(), 2, c)
        x = norm.normed if gain is None else norm.sum
        before = torch.empty_like(grad)
        branch = before if norm.mask is None else torch.empty_like(grad)
        tensors = (grad, x, norm.means, norm.scales, gain, later, norm.mask, before, branch, by_thread)
        self.kernels("norm_backward", *tensors, n, c)
        if by_thread is not None:
            for part, gradient in zip(("weight", "bias"), by_thread.sum(0), strict=True):
                if f"{norm.name}.{part}" in self.parameters:
                    self._add(f"{norm.name}.{part}", gradient)
        return before, branch

    def _attend(self, normed: Tensor, name: str) -> Attention:
        b, t, h, d = self.shape
        rows = self._linear(normed, name)  # (N, 3C)
        mixed = rows.new_empty(b * t, h * d)
        scales, levels = torch.empty(b * t, 2 * h), torch.empty(b * h, t)
        tensors = (rows, mixed, scales, levels, self.cos, self.sin, *self.kernels.room("attention", t, d))
        self.kernels("attend", *tensors, *self.shape, self.config.norm_eps)
        return Attention(rows, scales, levels, mixed)

    def _attend_backward(self, grad: Tensor, attention: Attention) -> Tensor:
        """Return the gradient of the rows (N, 3C), given that of the mixed rows (N, C)."""
        _, t, _, d = self.shape
        before = torch.empty_like(attention.rows)
        kept = (attention.mixed, attention.rows, attention.scales, attention.levels)
        tensors = (grad, *kept, self.cos, self.sin, before, *self.kernels.room("attention", t, d))
        self.kernels("attend_backward", *tensors, *self.shape)
        return before

"""The training pass on a CPU, its gradient written out around `kernels.c` and products of torch.

At these sizes most of a step goes into moving numbers between the products; automatic differentiation moves
far more of them than the gradient needs. `tests/backends/cpu/test_training_pass.py` holds this pass to `GPT`
differentiated by torch.

B sequences of T tokens make N = B·T rows of C channels; H heads of D channels, K of keys and values;
F feed-forward width; V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mygpt_cli.backends.cpu.kernels import Kernels
from mygpt_cli.backends.interfaces import MuonStep
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT, rows_at_once
from mygpt_cli.model.masks import DropoutMasks

# In the order of `kernels.c`.
ACTIVATIONS = ("relu", "relu2", "gelu_new", "silu")
QK_NORMS = ("none", "before", "after")
QK_GAINS = ("query_norm", "key_norm")


class TrainingPass:
    """Trains a model that it `takes` by the written-out pass."""

    def __init__(self, model: GPT, kernels: Kernels) -> None:
        self.model, self.kernels = model, kernels
        self.muon: MuonStep | None = kernels.muon

    @staticmethod
    def takes(model: GPT, kernels: Kernels) -> bool:
        """Whether this model trains here: on a CPU, of parts that the pass has."""
        return (
            kernels.dtype == model.compute_dtype
            and takes(model.config)
            and model.embedding.device.type == "cpu"
            and model.embedding.dtype == torch.float32
        )

    @torch.no_grad()
    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of predicting targets (B, T) from ids (B, T)."""
        return Pass(self.model, self.kernels, ids, None).loss(targets)

    def beside(self, model: GPT) -> "TrainingPass":
        """Return the pass of another model of the same parts."""
        return TrainingPass(model, self.kernels)

    @torch.no_grad()
    def accumulate_gradients(
        self, ids: Tensor, targets: Tensor, masks: DropoutMasks | None = None, loss_scale: float = 1.0
    ) -> Tensor:
        """Add the gradient of `loss_scale` times the loss to each parameter's; return the scaled loss."""
        one = Pass(self.model, self.kernels, ids, masks)
        total = one.forward(targets, loss_scale)
        for name, gradient in one.backward().items():
            parameter = one.learned[name]
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return total


def takes(config: ModelConfig) -> bool:
    """Whether the pass has all parts of such a model."""
    return config.nonlinearity in ACTIVATIONS and not config.scales_queries


@dataclass
class NormRecord:
    """A sum (N, C) on the residual stream, and what came of it.

    LayerNorm has means, RMSNorm has none. There is a gain, if only of ones, unless it is an RMSNorm without
    parameters.
    """

    name: str
    sum: Tensor
    normed: Tensor
    means: Tensor | None
    rstd: Tensor
    gain: Tensor | None
    mask: Tensor | None


@dataclass
class AttentionRecord:
    """Rows of queries, keys and values (N, (H + 2K)·D), and what they mix (N, H·D).

    The tables are of cosines and sines, the gains of queries and keys; the rest is as in `attention.h`.
    """

    name: str
    window: int
    rows: Tensor
    rstd: Tensor
    logsumexp: Tensor
    tables: tuple[Tensor | None, Tensor | None]
    gains: tuple[Tensor | None, Tensor | None]
    mixed: Tensor


# What the feed-forward part needs for the way back (N, F): what came before its activation, its factor
# where there is a gate, and what came of both; or nothing where it is made anew.
Inside = tuple[Tensor, Tensor | None, Tensor] | None


class Pass:
    """One pass over a batch: `forward`, then `backward` once; or `loss` alone, which keeps nothing."""

    def __init__(self, model: GPT, kernels: Kernels, ids: Tensor, masks: DropoutMasks | None) -> None:
        config, dtype = model.config, model.compute_dtype
        self.kernels = kernels
        self.config, self.dtype, self.masks = config, dtype, masks
        self.ids = ids.flatten()
        self.shape = (*ids.shape, config.heads, config.kv_heads, config.head_width)  # B, T, H, K, D
        self.learned = dict(model.named_parameters())
        self.parameters = {name: p.detach() for name, p in self.learned.items()}
        matrices = (name for name, p in self.parameters.items() if p.ndim == 2 and name != "positions")
        self.weights = {name: self.parameters[name].to(dtype) for name in matrices}
        self.head = "embedding" if config.tied else "head.weight"
        rotary = config.positions == "rotary"
        self.cos = model.cos if rotary else None
        self.sin = model.sin if rotary else None
        self._activation = ACTIVATIONS.index(config.nonlinearity)
        self._qk_norm = QK_NORMS.index(config.qk_norm)
        self.gradients: dict[str, Tensor] = {}

    def forward(self, targets: Tensor, loss_scale: float = 1.0) -> Tensor:
        """Return `loss_scale` times the mean loss for targets (B, T)."""
        self.final = self._hidden(keep=True)
        # (N, V), from here on their gradient
        self.logits = self.kernels.linear(self.final.normed, self.weights[self.head])
        losses = self._cross_entropy(self.logits, targets.flatten(), loss_scale)
        return losses.mean() * loss_scale

    def loss(self, targets: Tensor) -> Tensor:
        """Return the mean loss for targets (B, T), with few rows of logits at once."""
        hidden, rows = self._hidden(keep=False).normed, rows_at_once(self.config.vocab_size)
        parts = zip(torch.split(hidden, rows), torch.split(targets.flatten(), rows), strict=True)
        weight = self.weights[self.head]
        losses = [self._cross_entropy(self.kernels.linear(part, weight), own, 1.0) for part, own in parts]
        return torch.cat(losses).mean()

    def _cross_entropy(self, logits: Tensor, targets: Tensor, loss_scale: float) -> Tensor:
        """Return the loss (N) of each target; the logits (N, V) become their gradient."""
        n, vocab = logits.shape
        losses = torch.empty(n)
        workspace = self.kernels.workspace("cross_entropy", vocab, n)
        numbers = (n, vocab, self.config.softcap, loss_scale / n)
        self.kernels("cross_entropy", logits, targets, losses, *workspace, *numbers)
        return losses

    def _hidden(self, *, keep: bool) -> NormRecord:
        """Return the final norm, and keep in `layers` what the way back needs."""
        config = self.config
        branch = F.embedding(self.ids, self.parameters["embedding"])  # (N, C)
        if config.positions == "learned":
            b, t, *_ = self.shape
            branch = (branch.view(b, t, -1) + self.parameters["positions"][:t]).flatten(0, 1)
        branch = branch.to(self.dtype)
        x = None
        if config.embedding_norm:
            self.embedded = self._norm(None, branch, "", masked=False)
            branch = self.embedded.normed
        self.layers: list[tuple[NormRecord, AttentionRecord, NormRecord, Inside]] = []
        for layer in range(config.layers):
            block = f"blocks.{layer}"
            before = self._norm(x, branch, f"{block}.attention_norm")
            attention = self._attend(before.normed, layer)
            branch = self._linear(attention.mixed, f"{block}.attention.out")
            between = self._norm(before.sum, branch, f"{block}.mlp_norm")
            branch, inside = self._mlp(between.normed, f"{block}.mlp")
            x = between.sum
            if keep:
                self.layers.append((before, attention, between, inside))
        return self._norm(x, branch, "norm")

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
        gated = self.config.gated
        if self.kernels.takes(up) and not self.config.mlp_bias and not gated:
            return self.kernels.mlp(x, up, down, self._activation), None
        wide = self._linear(x, f"{name}.gate" if gated else f"{name}.up")  # (N, F)
        factor = self._linear(x, f"{name}.up") if gated else None
        active = torch.empty_like(wide)
        self.kernels("activate", wide, factor, active, self._activation, wide.numel())
        return self._linear(active, f"{name}.down"), (wide, factor, active)

    def _mlp_backward(self, grad: Tensor, x: Tensor, inside: Inside, name: str) -> Tensor:
        if inside is None:
            weights = self._mlp_weights(name)
            before, of_up, of_down = self.kernels.mlp_backward(grad, x, *weights, self._activation)
            self._add(f"{name}.up.weight", of_up)
            self._add(f"{name}.down.weight", of_down)
            return before
        wide, factor, active = inside
        inner = self._linear_backward(grad, active, f"{name}.down")
        self.kernels("activate_backward", inner, wide, factor, self._activation, wide.numel())
        if factor is None:
            return self._linear_backward(inner, x, f"{name}.up")
        before = self._linear_backward(inner, x, f"{name}.gate")
        return before.add_(self._linear_backward(factor, x, f"{name}.up"))

    def _mlp_weights(self, name: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{name}.up.weight"], self.weights[f"{name}.down.weight"]

    def _norm(self, x: Tensor | None, branch: Tensor, name: str, *, masked: bool = True) -> NormRecord:
        """Add to the residual stream (N, C) what a branch gives, under its dropout, and normalise the sum."""
        n, c = branch.shape
        mask = self.masks.draw(n, c) if self.masks and masked else None
        gain, bias = (self.parameters.get(f"{name}.{part}") for part in ("weight", "bias"))
        layer = self.config.norm == "layer"
        if gain is None and (layer or bias is not None):
            gain = torch.ones(c)
        total = branch if x is None and mask is None else torch.empty_like(branch)
        means = torch.empty(n) if layer else None
        norm = NormRecord(name, total, torch.empty_like(branch), means, torch.empty(n), gain, mask)
        out = None if total is branch else total
        tensors = (x, branch, mask, out, norm.normed, norm.means, norm.rstd, gain, bias)
        self.kernels("add_norm", *tensors, n, c, self.config.norm_eps)
        return norm

    def _norm_backward(self, norm: NormRecord, grad: Tensor, later: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the gradients (N, C) of the residual stream and of the branch that was added to it.

        `grad` is that of the normalised sum, `later` what the sum's other way onward has brought.
        """
        n, c = grad.shape
        by_thread = None if norm.gain is None else torch.zeros(torch.get_num_threads(), 2, c)
        x = norm.normed if norm.gain is None else norm.sum
        before = torch.empty_like(grad)
        branch = before if norm.mask is None else torch.empty_like(grad)
        tensors = (grad, x, norm.means, norm.rstd, norm.gain, later, norm.mask, before, branch, by_thread)
        self.kernels("norm_backward", *tensors, n, c)
        if by_thread is not None:
            for part, gradient in zip(("weight", "bias"), by_thread.sum(0), strict=True):
                if f"{norm.name}.{part}" in self.parameters:
                    self._add(f"{norm.name}.{part}", gradient)
        return before, branch

    def _attend(self, normed: Tensor, layer: int) -> AttentionRecord:
        b, t, h, k, d = self.shape
        name = f"blocks.{layer}.attention"
        tables = (None, None) if layer in self.config.unrotated else (self.cos, self.sin)
        rows = self._linear(normed, f"{name}.qkv")  # (N, (H + 2K)·D)
        mixed = rows.new_empty(b * t, h * d)
        rstd, logsumexp = torch.empty(b * t, h + k), torch.empty(b * h, t)
        query, key = (self.parameters.get(f"{name}.{norm}.weight") for norm in QK_GAINS)
        tensors = (rows, mixed, rstd, logsumexp, *tables, query, key)
        workspace, window = self.kernels.workspace("attention", t, d), self.config.window_of(layer)
        numbers = (*self.shape, window, self._qk_norm, self.config.norm_eps)
        self.kernels("attend", *tensors, *workspace, *numbers)
        return AttentionRecord(name, window, rows, rstd, logsumexp, tables, (query, key), mixed)

    def _attend_backward(self, grad: Tensor, attention: AttentionRecord) -> Tensor:
        """Return the gradient of the rows (N, (H + 2K)·D), given that of the mixed rows (N, H·D)."""
        _, t, _, _, d = self.shape
        before = torch.empty_like(attention.rows)
        kept = (attention.mixed, attention.rows, attention.rstd, attention.logsumexp)
        of_gains = None if attention.gains[0] is None else torch.zeros(torch.get_num_threads(), 2, d)
        tensors = (grad, *kept, *attention.tables, *attention.gains, before, of_gains)
        workspace = self.kernels.workspace("attention", t, d)
        numbers = (*self.shape, attention.window, self._qk_norm)
        self.kernels("attend_backward", *tensors, *workspace, *numbers)
        if of_gains is not None:
            for norm, gradient in zip(QK_GAINS, of_gains.sum(0), strict=True):
                self._add(f"{attention.name}.{norm}.weight", gradient)
        return before

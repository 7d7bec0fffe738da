"""The training pass of nanochat with its gradient written out, for CPUs.

On a CPU most of a step at this size goes into what surrounds the matrix products: automatic differentiation
moves far more than the gradient needs. Each function below is one sublayer with its norm and residual
connection; `tests/test_model_fused.py` holds them to `GPT` differentiated by torch.

Rows are ordered by time, then by sequence: N = T·B rows of C channels. H heads of D channels, F feed-forward
width, V vocabulary.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mygpt_cli.model.masks import Masks

if TYPE_CHECKING:
    from mygpt_cli.model.gpt import GPT, Block


def normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x divided by the root of its mean square over the last axis, and the factor it was scaled by."""
    scale = inverse_root_mean_square(x, eps)
    return x * scale, scale


def inverse_root_mean_square(x: Tensor, eps: float) -> Tensor:
    """Return one over the root of the mean square over the last axis, which is kept."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale: Tensor = norm.square_().mul_(1.0 / x.size(-1)).add_(eps).rsqrt_()
    return scale


def normalise_backward(grad: Tensor, normed: Tensor, scale: Tensor) -> Tensor:
    """Return the gradient before `normalise`, given that after it; overwrites `grad`."""
    along = (grad * normed).sum(-1, keepdim=True).mul_(-1.0 / grad.size(-1))
    return grad.addcmul_(normed, along).mul_(scale)


class Attend(torch.autograd.Function):
    """x + mask · attention(norm(x))."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        qkv: Tensor,
        out: Tensor,
        turn: Tensor,
        mask: Tensor | None,
        heads: int,
        eps: float,
    ) -> Tensor:
        """Take x (N, C), weights (3C, C) and (C, C), rotation matrices (T, D, D); return (N, C)."""
        n, c = x.shape
        t, d = turn.shape[:2]
        b = n // t
        normed, scale = normalise(x, eps)
        turned = torch.bmm((normed @ qkv[: 2 * c].T).view(t, b * 2 * heads, d), turn)
        turned_scale = inverse_root_mean_square(turned, eps)
        qk = torch.empty(2, b, heads, t, d, dtype=x.dtype)
        torch.mul(
            turned.view(t, b, 2, heads, d),
            turned_scale.view(t, b, 2, heads, 1),
            out=qk.permute(3, 1, 0, 2, 4),
        )
        q, k = qk.view(2, b * heads, t, d)
        v = (normed @ qkv[2 * c :].T).view(t, b * heads, d).transpose(0, 1).contiguous()  # (BH, T, D)
        # Queries and keys are normalised, so no score exceeds the root of D, and its exponential is safe.
        weights = torch.baddbmm(q.new_zeros(1, 1, 1), q, k.mT, beta=0, alpha=d**-0.5).exp_().tril_()
        total = weights.sum(-1, keepdim=True).reciprocal_()  # (BH, T, 1)
        mixed = torch.empty(t, b * heads, d, dtype=x.dtype)
        torch.mul(torch.bmm(weights, v), total, out=mixed.transpose(0, 1))
        mixed = mixed.view(n, c)
        ctx.save_for_backward(
            qkv,
            out,
            turn,
            normed,
            scale,
            turned_scale,
            qk,
            v,
            weights,
            total,
            mixed,
            mask if mask is not None else x,
        )
        ctx.masked = mask is not None
        if mask is None:
            return torch.addmm(x, mixed, out.T)
        return torch.addcmul(x, mixed @ out.T, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients of x, qkv and out."""
        qkv, out, turn, normed, scale, turned_scale, qk, v, weights, total, mixed, mask = ctx.saved_tensors
        _, b, heads, t, d = qk.shape
        n, c = normed.shape
        inner = grad * mask if ctx.masked else grad
        grad_out = inner.T @ mixed
        grad_mixed = inner @ out
        along = (grad_mixed * mixed).view(t, b * heads, d).sum(-1).T.unsqueeze(-1)  # (BH, T, 1)
        grad_rows = torch.empty(b * heads, t, d, dtype=grad.dtype)
        torch.mul(grad_mixed.view(t, b * heads, d).transpose(0, 1), total, out=grad_rows)
        grad_v = torch.bmm(weights.mT, grad_rows)
        grad_scores = torch.bmm(grad_rows, v.mT).sub_(along * total).mul_(weights)
        q, k = qk.view(2, b * heads, t, d)
        grad_qk = torch.empty_like(qk).view(2, b * heads, t, d)
        zero = q.new_zeros(1, 1, 1)
        torch.baddbmm(zero, grad_scores, k, beta=0, alpha=d**-0.5, out=grad_qk[0])
        torch.baddbmm(zero, grad_scores.mT, q, beta=0, alpha=d**-0.5, out=grad_qk[1])
        grad_turned = torch.empty(t, b, 2, heads, d, dtype=grad.dtype)
        flat = grad_qk.view(2, b, heads, t, d)
        shares = (flat * qk).sum(-1, keepdim=True).mul_(-1.0 / d)
        flat.addcmul_(qk, shares)
        torch.mul(flat.permute(3, 1, 0, 2, 4), turned_scale.view(t, b, 2, heads, 1), out=grad_turned)
        grad_qk = torch.bmm(grad_turned.view(t, b * 2 * heads, d), turn.mT).view(n, 2 * c)
        grad_v = grad_v.transpose(0, 1).reshape(n, c)
        grad_qkv = torch.empty_like(qkv)
        torch.mm(grad_qk.T, normed, out=grad_qkv[: 2 * c])
        torch.mm(grad_v.T, normed, out=grad_qkv[2 * c :])
        grad_normed = torch.addmm(grad_qk @ qkv[: 2 * c], grad_v, qkv[2 * c :])
        grad_x = grad + normalise_backward(grad_normed, normed, scale)
        return grad_x, grad_qkv, grad_out, None, None, None, None


class FeedForward(torch.autograd.Function):
    """x + mask · down(relu(up(norm(x)))²)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor, mask: Tensor | None, eps: float) -> Tensor:
        """Take x (N, C) and weights (F, C) and (C, F); return (N, C)."""
        normed, scale = normalise(x, eps)
        active = (normed @ up.T).relu_()
        squared = active.square()
        ctx.save_for_backward(up, down, normed, scale, active, squared, mask if mask is not None else x)
        ctx.masked = mask is not None
        if mask is None:
            return torch.addmm(x, squared, down.T)
        return torch.addcmul(x, squared @ down.T, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients of x, up and down."""
        up, down, normed, scale, active, squared, mask = ctx.saved_tensors
        inner = grad * mask if ctx.masked else grad
        grad_down = inner.T @ squared
        grad_active = (inner @ down).mul_(
            active
        )  # half of it: the square's factor 2 follows where it is cheap
        grad_up = (grad_active.T @ normed).mul_(2.0)
        grad_normed = grad_active @ up
        grad_x = torch.add(grad, normalise_backward(grad_normed, normed, scale), alpha=2.0)
        return grad_x, grad_up, grad_down, None, None


class Loss(torch.autograd.Function):
    """Mean cross-entropy in nats of head(norm(x)), soft-capped where there is a cap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, head: Tensor, targets: Tensor, cap: float, eps: float) -> Tensor:
        """Take x (N, C), the head (V, C) and targets (N,); return a float32 scalar."""
        normed, scale = normalise(x, eps)
        logits = normed @ head.T
        slope = logits
        if cap:
            logits.mul_(1.0 / cap).tanh_()
            slope = torch.addcmul(logits.new_ones(1), logits, logits, value=-1.0)
            logits.mul_(cap)
        probs = torch.softmax(logits, -1)
        chosen = probs.gather(1, targets[:, None]).to(torch.promote_types(probs.dtype, torch.float32))
        ctx.save_for_backward(head, targets, normed, scale, probs, slope)
        ctx.capped = bool(cap)
        return -chosen.clamp_min_(1e-30).log_().mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients of x and head."""
        head, targets, normed, scale, probs, slope = ctx.saved_tensors
        n = len(targets)
        probs[torch.arange(n), targets] -= 1.0
        if ctx.capped:
            probs.mul_(slope)
        share = float(grad) / n
        grad_head = (probs.T @ normed).mul_(share)
        grad_x = normalise_backward((probs @ head).mul_(share), normed, scale)
        return grad_x, grad_head, None, None, None


def rotation_matrices(cos: Tensor, sin: Tensor) -> Tensor:
    """Return for each of T positions the (D, D) matrix by which a row vector is turned."""
    t, half = cos.shape
    turn = cos.new_zeros(t, 2 * half, 2 * half)
    low = torch.arange(half)
    turn[:, low, low] = turn[:, low + half, low + half] = cos
    turn[:, low + half, low] = sin
    turn[:, low, low + half] = -sin
    return turn


def applies(model: "GPT") -> bool:
    """Whether this model trains through these functions: nanochat's own variant, on a CPU."""
    config = model.config
    return (
        config.arch == "nanochat"
        and config.activation == "relu2"
        and not config.attention_bias
        and config.kv_heads == config.heads
        and model.embedding.device.type == "cpu"
    )


def loss(model: "GPT", ids: Tensor, targets: Tensor, masks: Masks | None) -> Tensor:
    """Return the mean cross-entropy in nats of predicting targets (B, T) from ids (B, T), differentiable."""
    config, dtype = model.config, model.compute_dtype
    eps, t = config.norm_eps, ids.size(1)
    turn = rotation_matrices(model.cos[:t], model.sin[:t]).to(dtype)

    def mask(x: Tensor) -> Tensor | None:
        return None if masks is None else masks.draw(*x.shape)

    rows = F.embedding(ids.T.reshape(-1), model.embedding)  # (N, C)
    x = F.rms_norm(rows, (config.width,), eps=eps).to(dtype)
    if masks is not None:
        x = x * masks.draw(*x.shape)
    for block in cast("Iterable[Block]", model.blocks):
        qkv, out = block.attention.qkv.weight.to(dtype), block.attention.out.weight.to(dtype)
        x = Attend.apply(x, qkv, out, turn, mask(x), config.heads, eps)  # type: ignore[no-untyped-call]
        up, down = block.mlp.up.weight.to(dtype), block.mlp.down.weight.to(dtype)
        x = FeedForward.apply(x, up, down, mask(x), eps)  # type: ignore[no-untyped-call]
    head = model.embedding if model.head is None else model.head.weight
    rows = targets.T.reshape(-1)
    mean: Tensor = Loss.apply(x, head.to(dtype), rows, config.softcap, eps)  # type: ignore[no-untyped-call]
    return mean

"""Training and decoding by the model itself, in plain torch: what the other back-ends are held to."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from mygpt_cli.backends.cpu.sampler import CompiledSampler
from mygpt_cli.backends.interfaces import MuonStep
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.kv_cache import KVCache
from mygpt_cli.model.masks import DropoutMasks


class Autograd:
    """Trains by torch's automatic differentiation of `forward`, which is the model itself or compiled."""

    def __init__(
        self, model: GPT, *, forward: Callable[..., Tensor] | None = None, muon: MuonStep | None = None
    ) -> None:
        self.model, self.muon = model, muon
        self._forward = forward

    @torch.no_grad()
    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of predicting targets (B, T) from ids (B, T)."""
        # Validation comes seldom and in other shapes: it is not worth compiling for.
        loss: Tensor = self.model(ids, targets=targets)
        return loss

    def beside(self, model: GPT) -> "Autograd":
        """Return the reference for another model."""
        return Autograd(model)

    def accumulate_gradients(
        self, ids: Tensor, targets: Tensor, masks: DropoutMasks | None = None, loss_scale: float = 1.0
    ) -> Tensor:
        """Add the gradient of `loss_scale` times the loss to each parameter's; return the scaled loss."""
        loss = self.model.loss(ids, targets, masks, self._forward) * loss_scale
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


class ReferenceDecoder:
    """Reads tokens by the model itself."""

    weights = "none"
    reads_ahead = False

    def __init__(self, model: GPT, sampler: CompiledSampler | None = None) -> None:
        self.model, self.sampler = model, sampler

    @torch.inference_mode()
    def prefill(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Read ids (B, T) into an empty cache, if there is one; return the next token's logits (B, V)."""
        return self.model.unembed(self.model.hidden(ids, cache=cache)[:, -1])

    @torch.inference_mode()
    def decode(self, ids: Sequence[int], cache: KVCache) -> tuple[Tensor, list[int]]:
        """Read one more token for each sequence in the cache; return the next logits and best tokens."""
        tokens, logits = torch.tensor(ids, device=cache.keys.device), []
        for rows in list(_equally_long(cache.lengths)):
            part = cache.part(rows)
            logits.append(self.prefill(tokens[rows, None], part))
            cache.lengths[rows] = part.lengths
        return with_best(torch.cat(logits))


def _equally_long(lengths: Sequence[int]) -> Iterator[slice]:
    """Cut sequences into stretches of the same length."""
    end = 0
    for _, stretch in groupby(lengths):
        start, end = end, end + len(list(stretch))
        yield slice(start, end)


def with_best(logits: Tensor) -> tuple[Tensor, list[int]]:
    """Return logits (B, V) on the CPU, and the best token of each row, -1 where they are not finite."""
    if logits.is_cuda:  # a GPU writes without a detour into memory that is pinned
        logits = torch.empty_like(logits, device="cpu", pin_memory=True).copy_(logits)
    logits = logits.cpu()
    best = logits.argmax(dim=-1)
    if not math.isfinite(logits.sum().item()):  # one look at each number, and no copy
        best = torch.where(logits.isfinite().all(dim=-1), best, -1)
    return logits, best.tolist()

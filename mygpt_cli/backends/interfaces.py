"""The two things that a back-end may do: train a model, and read tokens for generation.

Each has a reference, `reference.py`, which takes every model. `choice.py` picks.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from torch import Tensor

from mygpt_cli.backends.cpu.sampler import CompiledSampler
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.kv_cache import KVCache
from mygpt_cli.model.masks import DropoutMasks

# A step of Muon on matrices, each given as (gradient, momentum, mean squares of its rows, weights), with the
# momentum's factor, the learning rate and the weight decay.
MuonStep = Callable[[Iterable[tuple[Tensor, ...]], float, float, float], None]


class TrainingBackend(Protocol):
    """Computes the loss of a model and its gradients. `muon` takes Muon's step, where there is a fast way."""

    muon: MuonStep | None

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of predicting targets (B, T) from ids (B, T); no gradient."""

    def beside(self, model: GPT) -> "TrainingBackend":
        """Return such a back-end for another model of the same parts."""

    def accumulate_gradients(
        self, ids: Tensor, targets: Tensor, masks: DropoutMasks | None = None, loss_scale: float = 1.0
    ) -> Tensor:
        """Add the gradient of `loss_scale` times the loss to each parameter's; return the scaled loss."""


class Decoder(Protocol):
    """Reads tokens into a cache and gives logits.

    `weights` is the precision that they were rounded to, or `none`. With `reads_ahead`, several tokens of a
    text are read in little more time than one, with the same bits. `sampler` draws tokens the fast way.
    """

    model: GPT
    weights: str
    reads_ahead: bool
    sampler: CompiledSampler | None

    def prefill(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Read ids (B, T) into an empty cache, if there is one; return the next token's logits (B, V)."""

    def decode(self, ids: Sequence[int], cache: KVCache) -> tuple[Tensor, list[int]]:
        """Read one more token for each of B sequences in the cache, or T each where it reads ahead.

        Returns the logits (B · T, V) of the token after each, float32 on the CPU, and the best tokens: of
        several the one with the lowest id, -1 where the logits are not finite.
        """

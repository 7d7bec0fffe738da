"""How a token is drawn: logits, filters, probabilities, a number on which one of the tokens lies.

Shapes: B sequences, T tokens, V entries of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mygpt_cli.backends.cpu.sampler import CompiledSampler
from mygpt_cli.base.randomness import derive
from mygpt_cli.config.sampling import Sampling, field_of
from mygpt_cli.generation.chain import Chain, Filtered, looks_back, run
from mygpt_cli.generation.logits import greedy, logits_to_probs

COMPILED = ("temperature", "top-k", "top-p", "min-p")  # what compiled code does, in its order


@dataclass(frozen=True)
class Choice:
    """Which token each of B sequences takes, and the draw that decided it.

    All tokens lie end to end in the order of their ids, each as long as its probability: token i from
    `ends[:, i - 1]` (0 for the first) up to `ends[:, i]`, (B, V). The `draws` (B,), in [0, 1), fall on the
    `ids` (B,).
    """

    ids: Tensor
    draws: Tensor
    ends: Tensor


class Step:
    """One new token for each of B sequences, and what led to it, which is worked out when it is looked at.

    `own` (B, V) are the model's own logits, float32 on the CPU, and `best` their best tokens (B). `texts` are
    the ids before (B, T), for filters that look back. `numbers` are those of the samples. Who takes the steps
    may set `kept` to the rows that go on, in their new order; else all do.
    """

    def __init__(
        self,
        sampler: "Sampler",
        index: int,
        own: Tensor,
        best: list[int],
        texts: Tensor,
        numbers: Sequence[int],
    ) -> None:
        self.index = index
        self.kept: list[int] | None = None
        self._own, self._best, self._texts = own, best, texts
        self._sampler, self._numbers = sampler, numbers

    @cached_property
    def ids(self) -> list[int]:
        """The tokens (B): drawn here, by compiled code where it can, else by the rule of `choose`."""
        sampler = self._sampler
        if not sampler.greedy:
            return sampler.draw_compiled(self._own, self._draws) or self.choice.ids.tolist()
        # The draw falls on the best token wherever it falls.
        return self._left.logits.argmax(dim=-1).tolist() if sampler.filters else self._best

    @cached_property
    def logits(self) -> Tensor:
        """The model's own logits (B, V), float64: a choice can be redone by hand, and small shares add up."""
        return self._own.double()

    @cached_property
    def _left(self) -> Filtered:
        """What the filters leave, but for `greedy`."""
        return run(self._sampler.filters, self.logits, self._texts, self._sampler.start)

    @property
    def exhausted(self) -> list[bool]:
        """Where (B) a filter left nothing and the best token stood in."""
        if self._sampler.looks_back:  # the others leave the best token
            return self._left.exhausted.tolist()
        return [False] * len(self._best)

    @property
    def stages(self) -> tuple[tuple[str, Tensor], ...]:
        """The logits (B, V) after each filter of the chain, by name."""
        sampler = self._sampler
        return run(sampler.chain, self.logits, self._texts, sampler.start, watch=True).stages

    @cached_property
    def probs(self) -> Tensor:
        """The probabilities (B, V) that the choice is made from."""
        left = self._left.logits
        return logits_to_probs(greedy(left) if self._sampler.greedy else left)

    @cached_property
    def _draws(self) -> list[float]:
        return [draw(self._sampler.sampling.seed, number, self.index) for number in self._numbers]

    @cached_property
    def choice(self) -> Choice:
        """The draws and where they fell."""
        return choose(self.probs, torch.tensor(self._draws, dtype=torch.float64))

    def logprobs(self) -> Tensor:
        """Return the log-probabilities (B,) of the chosen tokens by the model itself, before any filter."""
        chosen = self.logits.gather(-1, torch.tensor(self.ids)[:, None])[:, 0]
        return chosen - self.logits.logsumexp(dim=-1)


def draw(seed: int, number: int, index: int) -> float:
    """Return the random number in [0, 1) that decides token `index` of sample `number`.

    It depends on nothing else, so a sample is the same alone or among others, and each draw can be redone.
    """
    return (derive(seed, "sample", number, index) >> 10) / 2**53


def choose(probs: Tensor, draws: Tensor) -> Choice:
    """Pick from each row of probabilities (B, V), float64, the token where its draw (B,) falls."""
    ends = probs.cumsum(dim=-1)
    ends = ends / ends[:, -1:]
    ids = torch.searchsorted(ends, draws[:, None], right=True)[:, 0]
    return Choice(ids, draws, ends)


class Sampler:
    """The chain of filters, and the draw after it; `compiled` draws faster where it has all of the filters.

    Texts have new tokens from `start` on.
    """

    def __init__(
        self, sampling: Sampling, filters: Chain, start: int, compiled: CompiledSampler | None = None
    ) -> None:
        self.sampling, self.chain, self.start = sampling, filters, start
        self.greedy = bool(filters) and filters[-1][0] == "greedy"
        self.filters = filters[:-1] if self.greedy else filters
        self.looks_back = looks_back(filters)
        names = [name for name, _ in filters]
        self._compiled = compiled if names == [name for name in COMPILED if name in names] else None
        self._settings = {field: getattr(sampling, field) for field in map(field_of, names) if self._compiled}

    def draw_compiled(self, logits: Tensor, draws: Sequence[float]) -> list[int]:
        """Return the tokens (B) that draws choose from logits (B, V), or none where the exact rule must."""
        if self._compiled is None:
            return []
        ids = self._compiled(logits, draws, **self._settings)
        return [] if -1 in ids else ids

"""The loop that draws: logits, filters, probabilities, a choice, one token after another.

Shapes: B sequences, T tokens, V entries of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mygpt_cli.base.randomness import derive
from mygpt_cli.config.sampling import Sampling, field_of
from mygpt_cli.generation.chain import Chain, Filtered, looks_back, run
from mygpt_cli.generation.decode import Reader
from mygpt_cli.generation.logits import greedy, logits_to_probs
from mygpt_cli.generation.speculation import Speculator
from mygpt_cli.model.gpt import GPT

PICKED = ("temperature", "top-k", "top-p", "min-p")  # what compiled code does, in its order


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
    the ids before (B, T), for filters that look back.
    """

    def __init__(self, sampler: "Sampler", index: int, own: Tensor, best: list[int], texts: Tensor) -> None:
        self.index = index
        self._own, self._best, self._texts = own, best, texts
        self._sampler, self._numbers = sampler, sampler.numbers

    @cached_property
    def ids(self) -> list[int]:
        """The tokens (B)."""
        if not self._sampler.greedy:
            return self._sampler.pick(self._own, self._draws) or self.choice.ids.tolist()
        # The draw falls on the best token wherever it falls.
        return self._left.logits.argmax(dim=-1).tolist() if self._sampler.filters else self._best

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


def _side_by_side(texts: Sequence[Sequence[int]]) -> Tensor:
    """Return texts as one tensor (B, T) that ends with the last token of each; -1 fills up shorter ones."""
    longest = max(map(len, texts))
    return torch.tensor([[-1] * (longest - len(ids)) + list(ids) for ids in texts])


class Sampler:
    """Yields a step for each of `max_new_tokens` new tokens of `num_samples` sequences for each prompt.

    The prompts have at least one id each. Each is read once, and all sequences are decoded as one batch;
    `keep` makes it smaller between steps. `speculate` reads ahead where there is only one sequence.
    """

    def __init__(
        self, model: GPT, prompts: Sequence[Sequence[int]], sampling: Sampling, filters: Chain
    ) -> None:
        count, ids = sampling.num_samples, _side_by_side(prompts)
        self.sampling = sampling
        self.chain = filters
        self.greedy = bool(filters) and filters[-1][0] == "greedy"
        self.filters = filters[:-1] if self.greedy else filters
        self.looks_back = looks_back(filters)
        names = [name for name, _ in filters]
        self._picker = model.picker if names == [name for name in PICKED if name in names] else None
        self._picked = {field: getattr(sampling, field) for field in map(field_of, names) if self._picker}
        self._nothing = ids[:, :0]
        self.start = ids.size(1)
        self.numbers = list(range(1, count + 1)) * len(ids)
        alone = sampling.speculate and len(self.numbers) == 1 and model.decoder is not None
        self.reader = (Speculator if alone else Reader)(
            model,
            ids,
            room=sampling.max_new_tokens - 1,
            window=sampling.window,
            most=len(self.numbers),
        )
        if count > 1:
            self.reader.read()
            self.reader.select([row for row in range(len(ids)) for _ in range(count)])

    @property
    def guesses(self) -> tuple[int, int]:
        """How many tokens were guessed, and how many of them were right."""
        reader = self.reader
        return (reader.guessed, reader.right) if isinstance(reader, Speculator) else (0, 0)

    def pick(self, logits: Tensor, draws: Sequence[float]) -> list[int]:
        """Return the tokens (B) that draws choose from logits (B, V), or none: then the exact way is left."""
        if self._picker is None:
            return []
        ids = self._picker(logits, draws, **self._picked)
        return [] if -1 in ids else ids

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these sequences of the batch only."""
        self.numbers = [self.numbers[row] for row in rows]
        self.reader.select(rows)

    def __iter__(self) -> Iterator[Step]:
        for index in range(self.sampling.max_new_tokens):
            texts = self.reader.ids if self.looks_back else self._nothing
            step = Step(self, index, *self.reader.read(), texts)
            self.reader.append(step.ids)
            yield step

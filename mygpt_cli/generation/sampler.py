"""The loop that draws: logits, filters, probabilities, a choice, one token after another.

Shapes: B sequences, T tokens, V entries of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mygpt_cli.generation.chain import Chain, run
from mygpt_cli.generation.decode import Reader
from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.generation.settings import Sampling
from mygpt_cli.generation.speculation import Speculator
from mygpt_cli.model.gpt import GPT
from mygpt_cli.randomness import derive


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


@dataclass(frozen=True)
class Step:
    """One new token for each of B sequences, and what led to it.

    `logits` (B, V) are the model's own, float64 on the CPU; `probs` (B, V) those that the choice was made
    from. `exhausted` (B,) says where a filter left nothing and the best token stood in. `stages` are the
    logits (B, V) after each filter of the chain, by name, where they were asked for.
    """

    index: int
    logits: Tensor
    probs: Tensor
    choice: Choice
    exhausted: Tensor
    stages: tuple[tuple[str, Tensor], ...] = ()

    def logprobs(self) -> Tensor:
        """Return the log-probabilities (B,) of the chosen tokens by the model itself, before any filter."""
        chosen = self.logits.gather(-1, self.choice.ids[:, None])[:, 0]
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
    `keep` makes it smaller between steps. `speculate` reads ahead where there is only one sequence. Ids from
    `known` on are padding of the vocabulary and do not exist here.
    """

    def __init__(
        self,
        model: GPT,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        filters: Chain,
        *,
        known: int | None = None,
        watch: bool = False,
    ) -> None:
        count, ids = sampling.num_samples, _side_by_side(prompts)
        self.sampling = sampling
        self.filters = filters
        self.watch = watch
        self.start = ids.size(1)
        self.numbers = list(range(1, count + 1)) * len(ids)
        alone = sampling.speculate and len(self.numbers) == 1 and model.decoder is not None
        self.reader = (Speculator if alone else Reader)(
            model,
            ids,
            room=sampling.max_new_tokens - 1,
            window=sampling.window,
            known=known,
            most=len(self.numbers),
        )
        if count > 1:
            self.reader.logits()
            self.reader.select([row for row in range(len(ids)) for _ in range(count)])

    @property
    def guesses(self) -> tuple[int, int]:
        """How many tokens were guessed, and how many of them were right."""
        reader = self.reader
        return (reader.guessed, reader.right) if isinstance(reader, Speculator) else (0, 0)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these sequences of the batch only."""
        self.numbers = [self.numbers[row] for row in rows]
        self.reader.select(rows)

    def __iter__(self) -> Iterator[Step]:
        for index in range(self.sampling.max_new_tokens):
            step = self._step(index)
            self.reader.append(step.choice.ids)
            yield step

    def _step(self, index: int) -> Step:
        own = self.reader.logits()
        filtered = run(self.filters, own, self.reader.ids, self.start, watch=self.watch)
        probs = logits_to_probs(filtered.logits)
        draws = [draw(self.sampling.seed, number, index) for number in self.numbers]
        choice = choose(probs, torch.tensor(draws, dtype=torch.float64))
        return Step(index, own, probs, choice, filtered.exhausted, filtered.stages)

"""From a prompt to one token after another: prefill, decode one token, choose.

Shapes: B sequences that share a prompt, T tokens, V entries of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mygpt_cli.errors import MygptError
from mygpt_cli.generation.logits import chain, logits_to_probs
from mygpt_cli.generation.settings import Sampling
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.kv_cache import KVCache
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
    """One new token for each of B sequences, and everything that led to it.

    `stages` holds the logits (B, V), in float64 on the CPU: first the model's own, then those after each
    filter of the chain, by name. `probs` (B, V) are the probabilities that the choice was made from.
    """

    index: int
    stages: tuple[tuple[str, Tensor], ...]
    probs: Tensor
    choice: Choice

    @property
    def logits(self) -> Tensor:
        """The model's own logits (B, V)."""
        return self.stages[0][1]

    def logprobs(self) -> Tensor:
        """Return the log-probability (B,) of the chosen tokens by the model itself, before any filter."""
        chosen = self.logits.gather(-1, self.choice.ids[:, None])[:, 0]
        return chosen - self.logits.logsumexp(dim=-1)


@torch.inference_mode()
def prefill(model: GPT, ids: Tensor, cache: KVCache | None = None) -> Tensor:
    """Read token ids (B, T) into an empty cache, if there is one; return the next token's logits (B, V)."""
    return model.unembed(model.hidden(ids, cache=cache)[:, -1])


@torch.inference_mode()
def decode_one_token(model: GPT, ids: Tensor, cache: KVCache) -> Tensor:
    """Read one more token (B,) for each sequence in the cache; return the next token's logits (B, V)."""
    return model.unembed(model.hidden(ids[:, None], cache=cache)[:, -1])


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


def decode(
    model: GPT, prompt: Sequence[int], sampling: Sampling, *, known: int | None = None
) -> Iterator[Step]:
    """Yield a step for each of `max_new_tokens` new tokens of `num_samples` sequences.

    `prompt` has at least one id. Ids from `known` on are padding of the vocabulary and do not exist here.
    Where the text is longer than the model's context, the model sees its last part, as if it began there.
    Raises MygptError when the logits are not finite.
    """
    context, batch = model.config.context, sampling.num_samples
    device = model.embedding.device
    filters = chain(sampling)
    window = torch.tensor([prompt[-context:]], device=device)  # (1, T)
    cache = model.new_cache(1, min(context, window.size(1) + sampling.max_new_tokens))
    logits = prefill(model, window, cache).expand(batch, -1)
    window, cache = window.expand(batch, -1), cache.repeat(batch)
    for index in range(sampling.max_new_tokens):
        if index:
            last = window[:, -1]
            inside = cache.length < context
            logits = decode_one_token(model, last, cache) if inside else prefill(model, window)
        stages = [("logits", _checked(logits[:, :known], index))]
        for name, apply in filters:
            stages.append((name, apply(stages[-1][1])))
        probs = logits_to_probs(stages[-1][1])
        draws = [draw(sampling.seed, number, index) for number in range(1, batch + 1)]
        choice = choose(probs, torch.tensor(draws, dtype=torch.float64))
        yield Step(index, tuple(stages), probs, choice)
        window = torch.cat((window, choice.ids[:, None].to(device)), dim=1)[:, -context:]


def _checked(logits: Tensor, index: int) -> Tensor:
    if not logits.isfinite().all():
        raise MygptError(
            f"the model's logits for new token {index + 1} are not finite numbers",
            "the checkpoint's weights are damaged, or its training diverged: take an earlier one",
        )
    return logits.cpu().double()  # double: the choice can be redone by hand, and small shares add up

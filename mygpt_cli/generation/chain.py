"""The one visible chain of filters: which ones the settings ask for, in which order, and how they are run."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mygpt_cli.base.errors import UsageError
from mygpt_cli.config.sampling import Sampling, field_of, parse_bias
from mygpt_cli.generation import logits as on
from mygpt_cli.generation import words
from mygpt_cli.tokens.tokenizer import Tokenizer

# From logits (B, V) and the ids (B, T) before them, of which those from the given place on are new.
Filter = Callable[[Tensor, Tensor, int], Tensor]
Chain = Sequence[tuple[str, Filter]]

# What each filter looks at besides the logits: nothing, all ids, or the new ones.
_LOGITS = {
    "temperature": on.temperature,
    "top-k": on.top_k,
    "top-p": on.top_p,
    "min-p": on.min_p,
    "typical-p": on.typical_p,
}
_IDS = {"repetition-penalty": on.repetition_penalty, "no-repeat-ngram": on.no_repeat_ngram}
_NEW = {"frequency-penalty": on.frequency_penalty, "presence-penalty": on.presence_penalty}


class Filtered(NamedTuple):
    """The logits (B, V) after the chain, and in which rows (B,) a filter left nothing but the best token.

    `stages` are the logits after each filter, by name, where they were asked for.
    """

    logits: Tensor
    exhausted: Tensor
    stages: tuple[tuple[str, Tensor], ...]


def chain(sampling: Sampling, tokenizer: Tokenizer) -> list[tuple[str, Filter]]:
    """List the filters that these settings ask for, named, in the order in which they are applied.

    Raises UsageError for a token and TextError for a text that the tokenizer does not have.
    """
    return [(name, _filter(name, sampling, tokenizer)) for name in sampling.active]


def run(filters: Chain, logits: Tensor, ids: Tensor, start: int, *, watch: bool = False) -> Filtered:
    """Apply filters to logits (B, V) one after the other, given the ids (B, T), new ones from `start` on.

    Where a filter would leave no token at all, the best of those before it stays. `watch` keeps the stages.
    """
    exhausted = torch.zeros(len(logits), dtype=torch.bool)
    stages = []
    for name, function in filters:
        filtered = function(logits, ids, start)
        if name not in _LOGITS:  # those always leave the best token
            nothing = filtered.amax(dim=-1).isneginf()
            if nothing.any():
                filtered = torch.where(nothing[:, None], on.greedy(logits), filtered)
                exhausted = exhausted | nothing
        logits = filtered
        if watch:
            stages.append((name, logits))
    return Filtered(logits, exhausted, tuple(stages))


def looks_back(filters: Chain) -> bool:
    """Tell whether any of the filters looks at the ids before."""
    return any(name != "greedy" and name not in _LOGITS for name, _ in filters)


def _filter(name: str, sampling: Sampling, tokenizer: Tokenizer) -> Filter:
    if name == "greedy":
        return lambda logits, ids, start: on.greedy(logits)
    value = getattr(sampling, field_of(name))
    if alone := _LOGITS.get(name):
        return lambda logits, ids, start: alone(logits, value)
    if looking_back := _IDS.get(name):
        return lambda logits, ids, start: looking_back(logits, ids, value)
    if counting := _NEW.get(name):
        return lambda logits, ids, start: counting(logits, ids[:, start:], value)
    return _SPECIAL[name](value, tokenizer)


def _logit_bias(entries: Sequence[str], tokenizer: Tokenizer) -> Filter:
    biases = []
    for target, amount in map(parse_bias, entries):
        sequence = [target] if isinstance(target, int) else tokenizer.encode(target, begins=False)
        if sequence[0] >= tokenizer.vocab_size:
            raise UsageError(
                f"--logit-bias: there is no token {target}", f"ids go from 0 to {tokenizer.vocab_size - 1}"
            )
        biases.append((sequence, amount))

    def apply(logits: Tensor, ids: Tensor, start: int) -> Tensor:
        for sequence, amount in biases:
            logits = (on.lead if amount > 0 else on.bias)(logits, ids, sequence, amount)
        return logits

    return apply


def _ban(texts: Sequence[str], tokenizer: Tokenizer) -> Filter:
    bans = [words.ban(text.encode(), _vocabulary(tokenizer)) for text in texts]

    def apply(logits: Tensor, ids: Tensor, start: int) -> Tensor:
        for ban in bans:
            logits = ban(logits, ids)
        return logits

    return apply


def _begin_with(text: str, tokenizer: Tokenizer) -> Filter:
    tokenizer.encode(text)  # says what is wrong where it cannot be written
    begin = words.begin_with(text.encode(), _vocabulary(tokenizer))
    return lambda logits, ids, start: begin(logits, ids[:, start:])


def _min_new_tokens(least: int, tokenizer: Tokenizer) -> Filter:
    ends = tokenizer.ends

    def apply(logits: Tensor, ids: Tensor, start: int) -> Tensor:
        return logits if ids.size(1) - start >= least else on.cut(logits, ends)

    return apply


def _ignore_end(wanted: bool, tokenizer: Tokenizer) -> Filter:
    ends = tokenizer.ends
    return lambda logits, ids, start: on.cut(logits, ends)


def _vocabulary(tokenizer: Tokenizer) -> list[bytes]:
    """Return the bytes of each token; those that end the text are no part of it."""
    ends = set(tokenizer.ends)
    return [b"" if token in ends else tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]


_SPECIAL: dict[str, Callable[..., Filter]] = {
    "logit-bias": _logit_bias,
    "ban": _ban,
    "begin-with": _begin_with,
    "min-new-tokens": _min_new_tokens,
    "ignore-end": _ignore_end,
}

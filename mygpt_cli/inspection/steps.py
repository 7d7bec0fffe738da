"""The choice at every step: the best candidates, what the filters did to them, and the draw that decided."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.chain import chain
from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.generation.loop import begin, grow
from mygpt_cli.generation.sampler import Sampler, Step
from mygpt_cli.generation.stream import Prompt
from mygpt_cli.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Candidate:
    """A token that could come next.

    `rank` counts from 1 by logit. `probability` is the model's own, `stages` those after each filter, and
    `final_probability` the last of them; `cut_by` names the filter that removed it. A draw in [low, high)
    picks it.
    """

    rank: int
    id: int
    token: bytes
    logit: float
    probability: float
    stages: tuple[float, ...]
    final_probability: float
    cut_by: str | None
    low: float
    high: float
    picked: bool


@dataclass(frozen=True)
class Others:
    """All tokens that are not listed, taken together; `kept` of them passed the filters.

    `stages` are their probabilities after each filter, and how many it left.
    """

    count: int
    kept: int
    probability: float
    stages: tuple[tuple[float, int], ...]
    final_probability: float


@dataclass(frozen=True)
class Spread:
    """How open a choice is: its entropy in bits, and as many equally likely tokens (2 to that power)."""

    entropy: float
    choices: float


@dataclass(frozen=True)
class StepView:
    """One step of generation: `index` counts from 1, `context` is the text before it, as bytes.

    `candidates` are the best by logit, and the picked one wherever it ranks. `filters` names the chain.
    `draw` is the random number in [0, 1) that decided, with all tokens laid end to end by id.
    """

    index: int
    context: bytes
    candidates: tuple[Candidate, ...]
    others: Others
    filters: tuple[str, ...]
    draw: float
    model_spread: Spread
    final_spread: Spread

    @property
    def picked(self) -> Candidate:
        """The candidate that was chosen."""
        return next(candidate for candidate in self.candidates if candidate.picked)


def view_steps(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: Prompt,
    sampling: Sampling,
    *,
    top: int = 5,
    watch: Callable[[Step], None] = lambda step: None,
) -> Iterator[StepView]:
    """Generate `max_new_tokens` tokens, or up to the end of the text, and show the choice of each.

    `watch` sees every step as well.
    """
    context = prompt.text.encode()
    filters = chain(sampling, tokenizer)
    state = begin(decoder, [prompt.ids], sampling)
    for step in grow(state, Sampler(sampling, filters, state.length)):
        view = _view(step, tokenizer, context, top)
        watch(step)
        yield view
        if view.picked.id in tokenizer.ends:
            return
        context += view.picked.token


def _view(step: Step, tokenizer: Tokenizer, context: bytes, top: int) -> StepView:
    logits, probs = step.logits[0], logits_to_probs(step.logits[0])
    final, choice = step.probs[0], step.choice
    stages = [(after[0], logits_to_probs(after[0])) for _, after in step.stages]
    picked = int(choice.ids[0])
    order = logits.sort(descending=True, stable=True).indices
    shown = order[:top].tolist()
    shown += [] if picked in shown else [picked]
    ranks = torch.empty_like(order).scatter(0, order, torch.arange(1, len(order) + 1))
    ends = choice.ends[0]
    candidates = [
        Candidate(
            rank=int(ranks[token]),
            id=token,
            token=tokenizer.token_bytes(token),
            logit=float(logits[token]),
            probability=float(probs[token]),
            stages=tuple(float(shares[token]) for _, shares in stages),
            final_probability=float(final[token]),
            cut_by=_cut_by(step, token),
            low=float(ends[token - 1]) if token else 0.0,
            high=float(ends[token]),
            picked=token == picked,
        )
        for token in shown
    ]
    rest = torch.ones_like(logits, dtype=torch.bool).index_fill(0, torch.tensor(shown), False)
    left = [(float(shares[rest].sum()), int(after[rest].isfinite().sum())) for after, shares in stages]
    return StepView(
        index=step.index + 1,
        context=context,
        candidates=tuple(candidates),
        others=Others(
            count=int(rest.sum()),
            kept=left[-1][1] if left else int(rest.sum()),
            probability=float(probs[rest].sum()),
            stages=tuple(left),
            final_probability=float(final[rest].sum()),
        ),
        filters=tuple(name for name, _ in step.stages),
        draw=float(choice.draws[0]),
        model_spread=spread(probs),
        final_spread=spread(final),
    )


def _cut_by(step: Step, token: int) -> str | None:
    return next((name for name, logits in step.stages if logits[0, token].isneginf()), None)


def spread(probs: Tensor) -> Spread:
    """Measure how open a choice with these probabilities (V,) is."""
    entropy = float(torch.special.entr(probs).sum()) / math.log(2)
    return Spread(entropy, 2**entropy)

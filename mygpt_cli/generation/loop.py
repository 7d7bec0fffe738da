"""The loop of generation: prefill, decode, filter, draw, stop.

Shapes: B sequences, T tokens.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.decoding import DecodingState
from mygpt_cli.generation.sampler import Sampler, Step
from mygpt_cli.generation.speculation import SpeculativeState


def begin(decoder: Decoder, prompts: Sequence[Sequence[int]], sampling: Sampling) -> DecodingState:
    """Prefill prompts, of at least one id each, and return `num_samples` texts to grow for each.

    `speculate` takes effect where there is only one text, and the decoder reads ahead.
    """
    ids, count = _side_by_side(prompts), sampling.num_samples
    most = len(ids) * count
    kind = SpeculativeState if sampling.speculate and most == 1 and decoder.reads_ahead else DecodingState
    state = kind(decoder, ids, room=sampling.max_new_tokens - 1, window=sampling.window, most=most)
    state.read()
    if count > 1:
        state.select([row for row in range(len(ids)) for _ in range(count)])
    return state


def grow(state: DecodingState, sampler: Sampler, first: int = 1) -> Iterator[Step]:
    """Yield a step for each of `max_new_tokens` new tokens of the texts, until none of them goes on.

    Of each prompt's samples, `first` is the number of the first here.
    """
    sampling = sampler.sampling
    numbers = [first + row % sampling.num_samples for row in range(len(state))]
    nothing = torch.empty(len(state), 0, dtype=torch.long)
    for index in range(sampling.max_new_tokens):
        logits, best = state.read()  # of the prompts, then of the token that was drawn last
        texts = state.ids if sampler.looks_back else nothing
        step = Step(sampler, index, logits, best, texts, numbers)
        state.append(step.ids)  # filters act, and tokens are drawn
        yield step
        if step.kept is not None:  # some texts have stopped
            if not step.kept:
                return
            numbers = [numbers[row] for row in step.kept]
            state.select(step.kept)


def _side_by_side(texts: Sequence[Sequence[int]]) -> Tensor:
    """Return texts as one tensor (B, T) that ends with the last token of each; -1 fills up shorter ones."""
    longest = max(map(len, texts))
    return torch.tensor([[-1] * (longest - len(ids)) + list(ids) for ids in texts])

"""Beam search: the most probable texts, by going on with several at a time.

Each round extends every running text by every token and keeps the `beams` best by the sum of their
log-probabilities, after the filters. A text that ends is among the finished ones when only fewer than `beams`
extensions were better; of these the best by score stay: the sum divided by the length, the new tokens, to the
power of the length penalty (Wu et al., 2016). The search is over at the greatest length, where running texts
count as finished, or as soon as there are `beams` finished ones and the best running text, at its present
length, scores no better than the worst of them. That is the default of transformers (`early_stopping=False`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.chain import Chain, run
from mygpt_cli.generation.decoding import DecodingState


@dataclass(frozen=True)
class Beam:
    """A text in the search: its new token ids, and for each the model's own log-probability.

    `total` is the sum of the log-probabilities after the filters. `exhausted` counts the tokens for which the
    filters left nothing and the best token stood in.
    """

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    total: float = 0.0
    exhausted: int = 0

    def score(self, length_penalty: float) -> float:
        """Return the total, made comparable between texts of different length."""
        return self.total / math.pow(len(self.ids), length_penalty)


@dataclass(frozen=True)
class Round:
    """A step of the search.

    `extensions` are the best by their totals, each with the place of its parent among the texts kept in the
    step before. `kept` go on; `finished` are the finished texts so far that are not yet beaten by others, the
    best first.
    """

    extensions: tuple[tuple[int, Beam], ...]
    kept: tuple[Beam, ...]
    finished: tuple[Beam, ...]


def beam_search(
    decoder: Decoder,
    prompt: tuple[int, ...],
    sampling: Sampling,
    filters: Chain,
    *,
    ends: Callable[[tuple[int, ...]], bool],
    end_tokens: int = 1,
    watch: Callable[[Round], None] = lambda step: None,
) -> list[Beam]:
    """Return the `num_samples` best texts after a prompt, the best first.

    `ends` says of new ids whether the text ends with them, of which there are so many tokens that do. `watch`
    sees every step of the search.
    """
    beams, longest = sampling.beams, sampling.max_new_tokens

    def score(beam: Beam) -> float:
        return beam.score(sampling.length_penalty)

    state = DecodingState(
        decoder, torch.tensor([prompt]), room=longest - 1, window=sampling.window, most=beams
    )
    # Of so many times more candidates than beams, enough go on even if the best ones all end.
    count = max(2, 1 + end_tokens) * beams
    running, finished = [Beam()], list[Beam]()
    for length in range(1, longest + 1):
        candidates = _extend(state, running, filters, len(prompt), count)
        going = []
        for place, (parent, beam) in enumerate(candidates):
            if length < longest and not ends(beam.ids):
                going.append((parent, beam))
            elif place < beams:
                finished.append(beam)
        finished.sort(key=score, reverse=True)
        del finished[beams:], going[beams:]
        running = [beam for _, beam in going]
        watch(Round(tuple(candidates), tuple(running), tuple(finished)))
        hopeless = len(finished) == beams and running and score(running[0]) <= score(finished[-1])
        if not running or hopeless:
            break
        state.select([parent for parent, _ in going])
        state.append([beam.ids[-1] for beam in running])
    return finished[: sampling.num_samples]


def _extend(
    state: DecodingState, running: list[Beam], filters: Chain, start: int, count: int
) -> list[tuple[int, Beam]]:
    """Return the best extensions of the running texts by one token, each with the row of its parent."""
    own = state.logits().log_softmax(dim=-1)  # (B, V)
    filtered = run(filters, own, state.ids, start)
    totals = filtered.logits + own.new_tensor([beam.total for beam in running])[:, None]
    best = totals.flatten().topk(min(count, totals.numel()))
    candidates = []
    for total, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        row, token = divmod(place, own.size(1))
        if total > -math.inf:
            parent = running[row]
            beam = Beam(
                (*parent.ids, token),
                (*parent.logprobs, float(own[row, token])),
                total,
                parent.exhausted + int(filtered.exhausted[row]),
            )
            candidates.append((row, beam))
    return candidates

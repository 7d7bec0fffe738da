"""The distribution of the next token at several temperatures, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.chain import chain, run
from mygpt_cli.generation.decoding import DecodingState
from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.generation.sampler import choose, draw
from mygpt_cli.generation.stream import Prompt
from mygpt_cli.inspection.steps import Spread, spread
from mygpt_cli.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Probabilities:
    """A token that could come next: its logit, and at each temperature its probability, or that it is cut."""

    id: int
    token: bytes
    logit: float
    probabilities: tuple[float, ...]
    cut: tuple[bool, ...]


@dataclass(frozen=True)
class OtherProbabilities:
    """All tokens that are not listed, taken together; `kept` of them are left at each temperature."""

    count: int
    kept: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class TemperaturesView:
    """The next token after `context` at each temperature.

    `candidates` are the best by logit and all that are picked. The same `draw` in [0, 1) picks at every
    temperature the token with the id in `picked`. `spreads` say how open each choice is.
    """

    context: bytes
    temperatures: tuple[float, ...]
    candidates: tuple[Probabilities, ...]
    others: OtherProbabilities
    spreads: tuple[Spread, ...]
    draw: float
    picked: tuple[int, ...]


def view_temperatures(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: Prompt,
    sampling: Sampling,
    temperatures: Sequence[float],
    *,
    top: int = 5,
) -> TemperaturesView:
    """Show what each temperature makes of the logits after a prompt; other filters act as they are set."""
    settings = [replace(sampling, temperature=degree) for degree in temperatures]
    state = DecodingState(decoder, torch.tensor([prompt.ids]), room=0, window=sampling.window)
    logits, start = state.logits(), len(prompt.ids)
    each = [run(chain(one, tokenizer), logits, state.ids, start).logits for one in settings]
    filtered = torch.cat(each)  # (number of temperatures, V)
    probs, cut = logits_to_probs(filtered), filtered.isneginf()
    number = draw(sampling.seed, 1, 0)
    picked = choose(probs, torch.full((len(probs),), number, dtype=torch.float64)).ids.tolist()
    order = logits[0].sort(descending=True, stable=True).indices.tolist()
    listed = set(order[:top]) | set(picked)
    shown = [token for token in order if token in listed]
    rest = torch.ones(len(order), dtype=torch.bool).index_fill(0, torch.tensor(shown), False)
    return TemperaturesView(
        context=prompt.text.encode(),
        temperatures=tuple(temperatures),
        candidates=tuple(
            Probabilities(
                id=token,
                token=tokenizer.token_bytes(token),
                logit=float(logits[0, token]),
                probabilities=tuple(probs[:, token].tolist()),
                cut=tuple(cut[:, token].tolist()),
            )
            for token in shown
        ),
        others=OtherProbabilities(
            count=len(order) - len(shown),
            kept=tuple((~cut[:, rest]).sum(dim=1).tolist()),
            probabilities=tuple(probs[:, rest].sum(dim=1).tolist()),
        ),
        spreads=tuple(map(spread, probs)),
        draw=number,
        picked=tuple(picked),
    )

"""Beam search, step by step: which texts were followed, which were dropped, and what they scored."""

from dataclasses import dataclass, replace
from typing import Literal

from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.beam import Round
from mygpt_cli.generation.stream import Prompt, Sample, generate
from mygpt_cli.tokens.tokenizer import Tokenizer

Fate = Literal["kept", "finished", "dropped"]


@dataclass(frozen=True)
class Branch:
    """A text of the search with one more token, the one with this `id`.

    `parent` is the number of the text that it extends, among those kept in the step before; 0 is the prompt.
    `number` is its own, from 1, where it is kept, and `written` all of its bytes. `logprob` is the token's
    log-probability by the model, in nats; `total` is the sum over the text after the filters, and `score` the
    same divided by the number of tokens to the power of the length penalty.
    """

    parent: int
    number: int | None
    id: int
    token: bytes
    written: bytes
    logprob: float
    total: float
    score: float
    fate: Fate


@dataclass(frozen=True)
class BeamStep:
    """The extensions of one step, by their totals, the highest first; `index` counts from 1.

    `finished` counts the finished texts so far.
    """

    index: int
    branches: tuple[Branch, ...]
    finished: int


@dataclass(frozen=True)
class Found:
    """A text that the search ended with: its token ids, its bytes, its total and its score."""

    ids: tuple[int, ...]
    text: bytes
    total: float
    score: float


@dataclass(frozen=True)
class BeamsView:
    """A beam search after `context`: its steps, and what it `found`, the best first.

    `text` is the best one as `sample` writes it, without a stop string or a token that ends the text.
    """

    context: bytes
    beams: int
    length_penalty: float
    steps: tuple[BeamStep, ...]
    found: tuple[Found, ...]
    text: str


def view_beams(decoder: Decoder, tokenizer: Tokenizer, prompt: Prompt, sampling: Sampling) -> BeamsView:
    """Search as `sample --beams` does, and show each step.

    Raises MygptError where the filters allow no text, and what `generate` raises.
    """
    rounds: list[Round] = []
    best = replace(sampling, num_samples=1)
    events = generate(decoder, tokenizer, [prompt], best, watch=rounds.append)
    text = next(event.text for event in events if isinstance(event, Sample))
    found = tuple(
        Found(beam.ids, tokenizer.decode_bytes(beam.ids), beam.total, beam.score(sampling.length_penalty))
        for beam in rounds[-1].finished
    )
    return BeamsView(
        context=prompt.text.encode(),
        beams=sampling.beams,
        length_penalty=sampling.length_penalty,
        steps=tuple(_step(at, step, tokenizer, sampling) for at, step in enumerate(rounds, 1)),
        found=found,
        text=text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
    )


def _step(index: int, step: Round, tokenizer: Tokenizer, sampling: Sampling) -> BeamStep:
    numbers = {beam.ids: number for number, beam in enumerate(step.kept, 1)}
    finished = {beam.ids for beam in step.finished}
    branches = [
        Branch(
            parent=parent + 1 if index > 1 else 0,
            number=numbers.get(beam.ids),
            id=beam.ids[-1],
            token=tokenizer.token_bytes(beam.ids[-1]),
            written=tokenizer.decode_bytes(beam.ids),
            logprob=beam.logprobs[-1],
            total=beam.total,
            score=beam.score(sampling.length_penalty),
            fate="kept" if beam.ids in numbers else "finished" if beam.ids in finished else "dropped",
        )
        for parent, beam in step.extensions
    ]
    return BeamStep(index, tuple(branches), len(step.finished))

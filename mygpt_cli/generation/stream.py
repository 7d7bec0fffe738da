"""From the steps of decoding to text, as soon as it is certain."""

import codecs
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor

from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.base.errors import MygptError
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.beam import Round, beam_search
from mygpt_cli.generation.chain import Chain, chain
from mygpt_cli.generation.loop import begin, grow
from mygpt_cli.generation.sampler import Sampler
from mygpt_cli.tokens.tokenizer import Tokenizer

TOGETHER = 64  # texts in one batch: with more, memory grows and speed does not
CACHE = 2**30  # bytes of their keys and values

Reason = Literal["length", "stop", "end_of_text"]


@dataclass(frozen=True)
class Prompt:
    """A text to go on from, the token ids that the model starts with, and what there is to tell about it."""

    text: str
    ids: tuple[int, ...]
    note: str = ""


def read_prompt(tokenizer: Tokenizer, text: str, context: int) -> Prompt:
    """Encode a prompt; raises what the tokenizer raises for text that it cannot express.

    The tokenizer's prefix comes first. An empty prompt is the prefix, or the token that begins a text, or
    ends one, or a newline, or token 0: the first that there is.
    """
    if not text:
        return Prompt("", tokenizer.prefix or (_first_token(tokenizer),))
    tokenizer.check_prompt(text)
    ids = (*tokenizer.prefix, *tokenizer.encode(text))
    note = ""
    if len(ids) > context:
        note = f"the prompt has {len(ids):,} tokens; the model sees only the last {context:,}"
    return Prompt(text, ids, note)


def _first_token(tokenizer: Tokenizer) -> int:
    for token in (tokenizer.begin, tokenizer.end_of_text):
        if token is not None:
            return token
    try:
        return tokenizer.encode("\n")[-1]
    except MygptError:
        return 0


class TextDecoder:
    """Turns the bytes of tokens into text, and keeps back what may still change.

    That is a character whose bytes are not all there, and text that a stop string may begin with. Bytes that
    are not UTF-8 become lone surrogates ("surrogateescape"), so that they can be written out unchanged.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stop = stop
        self.stopped = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._held = ""

    def push(self, data: bytes) -> str:
        """Take the bytes of one more token and return the text that is now certain."""
        self._held += self._utf8.decode(data)
        # The first stop string to be complete counts, as if the text came one character at a time.
        found = [(at + len(stop), at) for stop in self.stop if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)[1]], ""
            return text
        keep = max((_overlap(self._held, stop) for stop in self.stop), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def finish(self) -> str:
        """Return what was kept back as a possible stop string; a character cut in half is left out."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that `stop` begins with, but is longer than."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class Likely(NamedTuple):
    """A token that was among the likeliest at some place, and its log-probability by the model."""

    id: int
    logprob: float


@dataclass(frozen=True)
class TextChunk:
    """Text that a sample goes on with; bytes that are not UTF-8 are lone surrogates.

    `prompt` and `number` count the prompts and the samples of each from 1.
    """

    prompt: int
    number: int
    text: str


@dataclass(frozen=True)
class Sample:
    """A finished sample: its text without the prompt, and for each token its id and log-probability.

    The log-probabilities (natural) are the model's own, before any filter; `top` are the likeliest tokens at
    each place. Both are there where they were asked for. The ids include the token that ended the text.
    `exhausted` counts the tokens for which the filters left nothing and the best one stood in. `score` is
    that of a beam.
    """

    prompt: int
    number: int
    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: Reason
    top: tuple[tuple[Likely, ...], ...] = ()
    exhausted: int = 0
    score: float | None = None


@dataclass(frozen=True)
class Stats:
    """How long it took, in seconds, to the first token and in all, and how many new tokens that were.

    Where texts were read ahead, so many tokens were `guessed`, and so many of them were `right`.
    """

    tokens: int
    first: float
    seconds: float
    guessed: int = 0
    right: int = 0


StreamEvent = TextChunk | Sample | Stats


class _Growing:
    """A sample as it is written."""

    def __init__(
        self, prompt: int, number: int, tokenizer: Tokenizer, sampling: Sampling, *, begins: bool
    ) -> None:
        self.prompt = prompt
        self.begins = begins  # a text, since nothing was to go on from
        self.number = number
        self.tokenizer = tokenizer
        self.longest = sampling.max_new_tokens
        self.decoder = TextDecoder(sampling.stop)
        self.text = ""
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.top: list[tuple[Likely, ...]] = []
        self.exhausted = 0
        self.score: float | None = None
        self.done = False

    def add(self, token: int, logprob: float | None) -> Iterator[TextChunk | Sample]:
        """Take the next token; pass on the text that is now certain, and the sample when that is all."""
        self.ids.append(token)
        self.logprobs += [] if logprob is None else [logprob]
        reason: Reason | None = None
        if token in self.tokenizer.ends:
            reason = "end_of_text"
            text = self.decoder.finish()
        else:
            first = self.begins and len(self.ids) == 1
            bytes_of = self.tokenizer.text_bytes if first else self.tokenizer.decode_bytes
            text = self.decoder.push(bytes_of([token]))
            if self.decoder.stopped:
                reason = "stop"
            elif len(self.ids) == self.longest:
                reason = "length"
                text += self.decoder.finish()
        self.text += text
        if text:
            yield TextChunk(self.prompt, self.number, text)
        if reason:
            self.done = True
            yield Sample(
                prompt=self.prompt,
                number=self.number,
                text=self.text,
                ids=tuple(self.ids),
                logprobs=tuple(self.logprobs),
                reason=reason,
                top=tuple(self.top),
                exhausted=self.exhausted,
                score=self.score,
            )


def generate(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    top: int = 0,
    logprobs: bool = True,
    watch: Callable[[Round], None] = lambda step: None,
) -> Iterator[StreamEvent]:
    """Write samples: chunks of text as they come, samples as they end, and last how long it took.

    Prompts are decoded together, and each gives what it gives alone. `top` asks for that many of the
    likeliest tokens at each place, where there are no beams. Without `logprobs`, tokens that are drawn have
    none, which saves time. `watch` sees every step of a beam search. Raises UsageError or TextError for
    filters that name what the tokenizer does not have.
    """
    return _Run(decoder, tokenizer, sampling, chain(sampling, tokenizer), top, logprobs, watch).write(prompts)


class _Run:
    """One call of `generate`: what it works with, and its counts."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        sampling: Sampling,
        filters: Chain,
        top: int,
        logprobs: bool,
        watch: Callable[[Round], None],
    ) -> None:
        self.decoder, self.tokenizer = decoder, tokenizer
        self.sampling, self.filters = sampling, filters
        self.top, self.logprobs, self.watch = top, logprobs, watch
        self.tokens = self.guessed = self.right = 0
        self.first = self.begin = 0.0

    def write(self, prompts: Sequence[Prompt]) -> Iterator[StreamEvent]:
        """Write for all prompts, as many texts at a time as there is room for in a batch."""
        self.begin = time.perf_counter()
        numbered = list(enumerate(prompts, 1))
        if self.sampling.beams > 1:
            for place, prompt in numbered:
                yield from self._search(place, prompt)
        else:
            room, samples = self._room(prompts), self.sampling.num_samples
            together = max(1, room // samples)
            for start in range(0, len(prompts), together):
                for first in range(1, samples + 1, room):
                    last = min(samples, first + room - 1)
                    yield from self._draw(numbered[start : start + together], first, last)
        yield Stats(self.tokens, self.first, self._seconds(), self.guessed, self.right)

    def _room(self, prompts: Sequence[Prompt]) -> int:
        """Return how many texts go into one batch, at least one."""
        config = self.decoder.model.config
        longest = max(len(prompt.ids) for prompt in prompts) + self.sampling.max_new_tokens
        numbers = 2 * config.layers * config.kv_heads * config.head_width * min(config.context, longest)
        return max(1, min(TOGETHER, CACHE // (4 * numbers)))

    def _draw(self, batch: list[tuple[int, Prompt]], first: int, last: int) -> Iterator[TextChunk | Sample]:
        """Draw samples of prompts, each with its place, from the number `first` to the number `last`.

        Those that end leave the batch.
        """
        sampling = replace(self.sampling, num_samples=last - first + 1)
        batch.sort(
            key=lambda numbered: len(numbered[1].ids)
        )  # without compiled code, equal lengths go together
        growing = [
            _Growing(place, number, self.tokenizer, sampling, begins=not prompt.text)
            for place, prompt in batch
            for number in range(first, last + 1)
        ]
        state = begin(self.decoder, [prompt.ids for _, prompt in batch], sampling)
        sampler = Sampler(sampling, self.filters, state.length, self.decoder.sampler)
        for step in grow(state, sampler, first):
            self._count(len(growing))
            logprobs = step.logprobs().tolist() if self.logprobs else [None] * len(growing)
            likeliest = _likeliest(step.logits, self.top) if self.top else []
            exhausted = step.exhausted
            for row, sample in enumerate(growing):
                sample.top += likeliest[row : row + 1]
                sample.exhausted += exhausted[row]
                yield from sample.add(step.ids[row], logprobs[row])
            if any(sample.done for sample in growing):
                step.kept = _without([sample.done for sample in growing])
                growing = [growing[row] for row in step.kept]
        self.guessed += state.guessed
        self.right += state.right

    def _search(self, place: int, prompt: Prompt) -> Iterator[TextChunk | Sample]:
        """Find the most probable texts for a prompt."""
        tokenizer, sampling = self.tokenizer, self.sampling
        stops = [stop.encode() for stop in sampling.stop]
        longest = max(map(len, stops), default=0)

        def ends(ids: tuple[int, ...]) -> bool:
            latest = tokenizer.decode_bytes(ids[-longest:]) if stops else b""
            return ids[-1] in tokenizer.ends or any(stop in latest for stop in stops)

        beams = beam_search(
            self.decoder,
            prompt.ids,
            sampling,
            self.filters,
            ends=ends,
            end_tokens=len(tokenizer.ends),
            watch=self.watch,
        )
        if len(beams) < sampling.num_samples:
            raise MygptError(
                f"the filters allow only {len(beams)} of {sampling.num_samples} texts",
                "ask for fewer with --num-samples",
            )
        for number, beam in enumerate(beams, 1):
            self._count(len(beam.ids))
            sample = _Growing(place, number, tokenizer, sampling, begins=not prompt.text)
            sample.exhausted, sample.score = beam.exhausted, beam.score(sampling.length_penalty)
            for token, logprob in zip(beam.ids, beam.logprobs, strict=True):
                yield from sample.add(token, logprob)

    def _count(self, tokens: int) -> None:
        self.first = self.first or self._seconds()
        self.tokens += tokens

    def _seconds(self) -> float:
        return time.perf_counter() - self.begin


def _without(gone: Sequence[bool]) -> list[int]:
    """Return the rows that are left, the last ones in the places of those gone: few have to move."""
    rows = list(range(len(gone)))
    for row in reversed(range(len(gone))):
        if gone[row]:
            rows[row] = rows[-1]
            rows.pop()
    return rows


def _likeliest(logits: Tensor, count: int) -> list[tuple[Likely, ...]]:
    """Return for each row of logits (B, V) the likeliest tokens, the best first."""
    best = logits.log_softmax(dim=-1).topk(min(count, logits.size(1)))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [tuple(map(Likely, ids, logprobs)) for ids, logprobs in rows]

"""From the steps of decoding to text, as soon as it is certain."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mygpt_cli.errors import MygptError
from mygpt_cli.generation.decode import decode
from mygpt_cli.generation.settings import Sampling
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokenizer import Tokenizer

Reason = Literal["length", "stop", "end_of_text"]


@dataclass(frozen=True)
class Prompt:
    """A text to go on from, the token ids that the model starts with, and what there is to tell about it."""

    text: str
    ids: tuple[int, ...]
    note: str = ""


def read_prompt(tokenizer: Tokenizer, text: str, context: int) -> Prompt:
    """Encode a prompt; raises what the tokenizer raises for text that it cannot express.

    An empty prompt starts from the end-of-text token, or a newline, or token 0: the first that there is.
    """
    if not text:
        return Prompt("", (_first_token(tokenizer),))
    ids = tuple(tokenizer.encode(text))
    note = ""
    if len(ids) > context:
        note = f"the prompt has {len(ids):,} tokens, and the model sees only the last {context:,}"
    return Prompt(text, ids, note)


def _first_token(tokenizer: Tokenizer) -> int:
    if tokenizer.end_of_text is not None:
        return tokenizer.end_of_text
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


@dataclass(frozen=True)
class Chunk:
    """Text that sample `number` (from 1) goes on with; bytes that are not UTF-8 are lone surrogates."""

    number: int
    text: str


@dataclass(frozen=True)
class Sample:
    """A finished sample: its text without the prompt, and for each token its id and log-probability.

    The log-probabilities (natural) are the model's own, before any filter. The ids include the token that
    ended the text.
    """

    number: int
    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: Reason


class _Growing:
    """A sample as it is written."""

    def __init__(self, number: int, stop: Sequence[str]) -> None:
        self.number = number
        self.decoder = TextDecoder(stop)
        self.text = ""
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.reason: Reason | None = None

    def add(self, token: int, logprob: float, tokenizer: Tokenizer, *, last: bool) -> str:
        """Take the next token and return the text that is now certain."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token == tokenizer.end_of_text:
            self.reason = "end_of_text"
            text = self.decoder.finish()
        else:
            text = self.decoder.push(tokenizer.token_bytes(token))
            if self.decoder.stopped:
                self.reason = "stop"
            elif last:
                self.reason = "length"
                text += self.decoder.finish()
        self.text += text
        return text


def generate(
    model: GPT, tokenizer: Tokenizer, prompt: Prompt, sampling: Sampling
) -> Iterator[Chunk | Sample]:
    """Write samples from one prompt, decoded together: chunks of text as they come, samples as they end."""
    growing = [_Growing(number, sampling.stop) for number in range(1, sampling.num_samples + 1)]
    for step in decode(model, prompt.ids, sampling, known=tokenizer.vocab_size):
        last = step.index + 1 == sampling.max_new_tokens
        tokens = zip(growing, step.choice.ids.tolist(), step.logprobs().tolist(), strict=True)
        for sample, token, logprob in tokens:
            if sample.reason:
                continue
            if text := sample.add(token, logprob, tokenizer, last=last):
                yield Chunk(sample.number, text)
            if sample.reason:
                ids, logprobs = tuple(sample.ids), tuple(sample.logprobs)
                yield Sample(sample.number, sample.text, ids, logprobs, sample.reason)
        if all(sample.reason for sample in growing):
            return

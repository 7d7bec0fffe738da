"""Samples to stdout: streamed text on a terminal, exact bytes on a pipe, or JSON lines."""

import dataclasses
import json
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.text import Text

from mygpt_cli.ui.console import note, show, stderr_console, stdout_console
from mygpt_cli.ui.text import safe
from mygpt_cli.ui.top import render_top
from mygpt_cli.ui.units import count_of

if TYPE_CHECKING:
    from mygpt_cli.config.sampling import Sampling
    from mygpt_cli.generation.stream import Prompt, Sample, Stats, TextChunk
    from mygpt_cli.tokens.tokenizer import Tokenizer

Place = tuple[int, int, int]  # which settings, from 0; which prompt and which of its samples, from 1


class Output(Protocol):
    """Where text goes: a terminal or a pipe."""

    def write(self, text: str, style: str = "") -> None:
        """Write text from outside at once."""

    def end(self, told: bool) -> None:
        """Leave the cursor where the next program wants it, or what is to be told on stderr."""


class Terminal:
    """Shows what a terminal would act on, and ends with a new line."""

    def __init__(self) -> None:
        self.console = stdout_console()
        self.at_margin = True

    def write(self, text: str, style: str = "") -> None:
        """Write text made safe."""
        shown = safe(text)
        if style:
            self.console.print(Text(shown, style=style), end="", soft_wrap=True)
        else:
            self.console.file.write(shown)
        self.console.file.flush()
        self.at_margin = shown.endswith("\n") if shown else self.at_margin

    def end(self, told: bool) -> None:
        """Go to the beginning of a line."""
        if not self.at_margin:
            self.write("\n")


class Pipe:
    """Passes exact bytes on; lone surrogates stand for bytes that are not UTF-8."""

    at_margin = True

    def write(self, text: str, style: str = "") -> None:
        """Write the bytes of the text."""
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
        self.at_margin = text.endswith("\n") if text else self.at_margin

    def end(self, told: bool) -> None:
        """Add nothing, the text is all there is; stderr may be the same place, and gets a line of its own."""
        if told and not self.at_margin:
            stderr_console().print()


class Writer:
    """Shows what `generate` yields, run after run with one of the settings each, in the order of the samples.

    What a sample says before its turn is kept until then, and `notes` until after the last. `source` is what
    there is to say about the model.
    """

    def __init__(
        self,
        prompts: "Sequence[Prompt]",
        samplings: "Sequence[Sampling]",
        tokenizer: "Tokenizer",
        source: Mapping[str, str],
    ) -> None:
        self.prompts, self.samplings, self.tokenizer, self.source = prompts, samplings, tokenizer, source
        self.notes: list[str] = []
        runs, places = range(len(samplings)), range(1, len(prompts) + 1)
        numbers = range(1, samplings[0].num_samples + 1)
        self._waiting: dict[Place, deque[TextChunk | Sample]] = {
            place: deque() for place in product(runs, places, numbers)
        }
        self._turns = iter(self._waiting)
        self._turn: Place | None = None

    def __enter__(self) -> Self:
        self._next_turn()
        return self

    def __exit__(self, *_: object) -> None:
        for message in self.notes:
            note(message)

    def show(self, event: "TextChunk | Sample", run: int) -> None:
        """Take the next event of the run with settings number `run`, counted from 0."""
        from mygpt_cli.generation.stream import TextChunk

        self._waiting[run, event.prompt, event.number].append(event)
        while self._turn and (waiting := self._waiting[self._turn]):
            earliest = waiting.popleft()
            if isinstance(earliest, TextChunk):
                self.chunk(earliest)
            else:
                self.sample(earliest, self.samplings[self._turn[0]])
                self._next_turn()

    def _next_turn(self) -> None:
        self._turn = next(self._turns, None)
        if self._turn:
            self.begin(*self._turn)

    def begin(self, run: int, prompt: int, number: int) -> None:
        """Take note of the sample whose turn it is."""

    def chunk(self, chunk: "TextChunk") -> None:
        """Show text of the sample whose turn it is."""

    def sample(self, sample: "Sample", sampling: "Sampling") -> None:
        """Show what there is to say in the end about the sample whose turn it is."""


class TextWriter(Writer):
    """Writes each prompt and what follows it; several samples one after the other, each under a title."""

    def __enter__(self) -> Self:
        self.out: Output = Terminal() if sys.stdout.isatty() else Pipe()
        self.gap = ""  # what parts a title from the section before it
        return super().__enter__()

    def __exit__(self, *details: object) -> None:
        self.out.end(told=bool(self.notes))
        super().__exit__(*details)

    def begin(self, run: int, prompt: int, number: int) -> None:
        """Write the title and the prompt."""
        count = self.samplings[run].num_samples
        parts = [f"temperature {self.samplings[run].temperature:g}"] if len(self.samplings) > 1 else []
        parts += [f"prompt {prompt} of {len(self.prompts)}"] if len(self.prompts) > 1 else []
        parts += [f"sample {number} of {count}"] if count > 1 else []
        if parts:
            self.out.write(f"{self.gap}==> {', '.join(parts)} <==\n", "bold")
            self.gap = "\n\n"
        self.out.write(self.prompts[prompt - 1].text, "dim")

    def chunk(self, chunk: "TextChunk") -> None:
        """Write text as it comes."""
        self.out.write(chunk.text)

    def sample(self, sample: "Sample", sampling: "Sampling") -> None:
        """Write a table of the likeliest tokens, where there is one."""
        if sample.top:
            self.out.write("\n\n")
            console = stdout_console()
            show(console, render_top(sample, self.tokenizer, console.width))
            self.gap = "\n"


class JsonWriter(Writer):
    """Writes one JSON line for each sample, in the order of their numbers."""

    def sample(self, sample: "Sample", sampling: "Sampling") -> None:
        """Write the line of a sample."""
        settings = dataclasses.asdict(sampling)
        prompt = self.prompts[sample.prompt - 1]
        record: dict[str, Any] = {
            "prompt_number": sample.prompt,
            "number": sample.number,
            "prompt": prompt.text,
            "text": sample.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            "reason": sample.reason,
            "prompt_ids": prompt.ids,
            "ids": sample.ids,
            "logprobs": sample.logprobs,
            "exhausted": sample.exhausted,
            "seed": settings.pop("seed"),
            "settings": settings,
            **self.source,
        }
        if sample.score is not None:
            record["score"] = sample.score
        if sample.top:
            record["top_logprobs"] = [[self._likely(*entry) for entry in top] for top in sample.top]
        write_json(record)

    def _likely(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.tokenizer.token_bytes(token).decode("utf-8", "replace")
        return {"id": token, "text": text, "logprob": logprob}


def write_json(record: dict[str, Any]) -> None:
    """Write one JSON line to stdout, in ASCII, which every terminal and every locale passes on unchanged."""
    sys.stdout.write(json.dumps(record, allow_nan=False) + "\n")
    sys.stdout.flush()


def stats_line(stats: "Stats", title: str) -> str:
    """Say how fast it went, under a title where there are several to tell apart."""
    speed = stats.tokens / stats.seconds
    shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
    guesses = f"; {stats.right:,} of {stats.guessed:,} guessed tokens were right" if stats.guessed else ""
    return (
        f"{title}{count_of(stats.tokens, 'token')} in {stats.seconds:.2f} s: {shown} tokens/s,"
        f" the first after {1000 * stats.first:,.0f} ms{guesses}"
    )

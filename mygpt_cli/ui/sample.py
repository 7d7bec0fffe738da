"""Samples to stdout: streamed text on a terminal, exact bytes on a pipe, or JSON lines."""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any, Protocol

from rich.text import Text

from mygpt_cli.ui.console import stdout_console
from mygpt_cli.ui.text import safe

if TYPE_CHECKING:
    from mygpt_cli.generation.settings import Sampling
    from mygpt_cli.generation.stream import Chunk, Prompt, Sample


class Output(Protocol):
    """Where text goes: a terminal or a pipe."""

    def write(self, text: str, style: str = "") -> None:
        """Write text from outside at once."""

    def end(self) -> None:
        """Leave the cursor where the next program wants it."""


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

    def end(self) -> None:
        """Go to the beginning of a line."""
        if not self.at_margin:
            self.write("\n")


class Pipe:
    """Passes exact bytes on; lone surrogates stand for bytes that are not UTF-8."""

    def write(self, text: str, style: str = "") -> None:
        """Write the bytes of the text."""
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()

    def end(self) -> None:
        """Add nothing: the text is all there is."""


class TextWriter:
    """Writes the prompt and what follows it; several samples one after the other, each under a title.

    The first unfinished sample streams; what those after it say meanwhile is kept until their turn.
    """

    def __init__(self, prompt: "Prompt", sampling: "Sampling") -> None:
        self.prompt = prompt.text
        self.count = sampling.num_samples
        self.out: Output = Terminal() if sys.stdout.isatty() else Pipe()
        self.turn = 0
        self.waiting: dict[int, list[str]] = {number: [] for number in range(1, self.count + 1)}
        self.finished: set[int] = set()

    def __enter__(self) -> "TextWriter":
        self._next_turn()
        return self

    def __exit__(self, *_: object) -> None:
        self.out.end()

    def show(self, event: "Chunk | Sample") -> None:
        """Take the next event of `generate`."""
        from mygpt_cli.generation.stream import Chunk

        if isinstance(event, Chunk):
            if event.number == self.turn:
                self.out.write(event.text)
            else:
                self.waiting[event.number].append(event.text)
            return
        self.finished.add(event.number)
        while self.turn in self.finished and self.turn < self.count:
            self._next_turn()

    def _next_turn(self) -> None:
        self.turn += 1
        if self.count > 1:
            before = "\n\n" if self.turn > 1 else ""
            self.out.write(f"{before}==> sample {self.turn} of {self.count} <==\n", "bold")
        self.out.write(self.prompt, "dim")
        for text in self.waiting.pop(self.turn):
            self.out.write(text)


class JsonWriter:
    """Writes one JSON line for each sample, in the order of their numbers."""

    def __init__(self, prompt: "Prompt", sampling: "Sampling") -> None:
        self.prompt = prompt
        self.settings = dataclasses.asdict(sampling)
        self.seed = self.settings.pop("seed")
        self.next = 1
        self.waiting: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> "JsonWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: "Chunk | Sample") -> None:
        """Take the next event of `generate`."""
        from mygpt_cli.generation.stream import Chunk

        if isinstance(event, Chunk):
            return
        self.waiting[event.number] = self._record(event)
        while record := self.waiting.pop(self.next, None):
            write_json(record)
            self.next += 1

    def _record(self, sample: "Sample") -> dict[str, Any]:
        return {
            "number": sample.number,
            "prompt": self.prompt.text,
            "text": sample.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            "reason": sample.reason,
            "prompt_ids": self.prompt.ids,
            "ids": sample.ids,
            "logprobs": sample.logprobs,
            "seed": self.seed,
            "settings": self.settings,
        }


def write_json(record: dict[str, Any]) -> None:
    """Write one JSON line to stdout, in ASCII, which every terminal and every locale passes on unchanged."""
    sys.stdout.write(json.dumps(record, allow_nan=False) + "\n")
    sys.stdout.flush()

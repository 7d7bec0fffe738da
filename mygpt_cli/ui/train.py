"""A training run as plain lines, as JSON lines, or as the run's folder alone."""

import json as jsonlib
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.table import Table
from rich.text import Text

from mygpt_cli.config.knobs import knobs
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.training.judging import Measured, Verdict, verdict
from mygpt_cli.ui.console import silence, stderr_console
from mygpt_cli.ui.samples import sample_line
from mygpt_cli.ui.text import safe
from mygpt_cli.ui.units import count, count_of, duration, size

if TYPE_CHECKING:
    from mygpt_cli.inspection.history import RunHistory
    from mygpt_cli.text.corpus import Corpus
    from mygpt_cli.training.events import Corrected, Evaluated, Event, Finished, Planned

SHOWN_SKIPPED = 10
LABEL = 10  # cells before the text of a line
WIDEST = 100
SMALL = 0.1  # fraction of the steps; a correction of less is not worth a line
APART = 1.25  # times as long as training; where a command takes longer, its own time is told too
QUIET_SECONDS = 10.0  # between two lines on what is being prepared
BITS = "(lower is better; 8 is random bytes)"
SAMPLE_LINES = 5
VERDICTS: Mapping[Verdict, str] = {
    "good": "good: the loss has levelled off, on new text as on the training text",
    "still improving": "still improving: give it more time",
    "not learning": "not learning: it does worse than random guessing; start again with a lower --lr",
    "memorising": "memorising: it learns its text by heart rather than the language; more text helps most",
}
ABOVE = (
    "the training loss is measured with dropout, which makes it harder, and the validation loss without: "
    "that is why training is above validation"
)


def write_line(line: str) -> None:
    """Write to stdout; when its reader has gone, training goes on without."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)


class Reporter:
    """Tells nothing but, at the end and on stdout, the folder of the run; the others build on it."""

    wants_ending = False  # a sample when it has trained

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def busy(self, what: str, fraction: float = 0.0) -> None:
        """Tell what is being prepared, and how much of it is done."""

    def text(self, corpus: "Corpus") -> None:
        """Tell what the text is."""

    def notes(self, notes: Iterable[str]) -> None:
        """Tell what was chosen against expectation."""

    def plan(self, plan: "Planned") -> None:
        """Tell what will be trained."""

    def past(self, history: "RunHistory") -> None:
        """Take up what happened before a run was resumed."""

    def event(self, event: "Event") -> None:
        """Tell what happened."""

    def finish(self, folder: Path, prompt: str = "") -> None:
        """Name the run's folder; `prompt` is one to try, where there is any."""
        write_line(str(folder))


class JsonReporter(Reporter):
    """Writes one JSON object for each event to stdout."""

    def __init__(self) -> None:
        self._doing = ""

    def busy(self, what: str, fraction: float = 0.0) -> None:
        """Write what is being prepared, once."""
        if what != self._doing:
            self._doing = what
            self._write({"event": "preparing", "what": what})

    def text(self, corpus: "Corpus") -> None:
        """Write the measures of the text."""
        skipped = [{"path": str(s.path), "reason": s.reason} for s in corpus.skipped]
        self._write(
            {
                "event": "text",
                "documents": corpus.documents,
                "train_characters": corpus.train.characters,
                "val_characters": corpus.val.characters,
                "bytes": corpus.train.bytes + corpus.val.bytes,
                "skipped": skipped,
            }
        )

    def notes(self, notes: Iterable[str]) -> None:
        """Write each note."""
        for note in notes:
            self._write({"event": "note", "text": note})

    def plan(self, plan: "Planned") -> None:
        """Write the resolved configuration, and why mygpt chose what nobody set."""
        self._write(
            {
                "event": "plan",
                "config": asdict(plan.config),
                "seconds": plan.seconds,
                "parameters": plan.parameters,
                "saved_parameters": plan.saved_parameters,
                "train_tokens": plan.train_tokens,
                "val_tokens": plan.val_tokens,
                "reasons": dict(plan.reasons),
            }
        )

    def event(self, event: "Event") -> None:
        """Write the event's fields."""
        from mygpt_cli.checkpoints.runs import as_record

        self._write(as_record(event))

    def finish(self, folder: Path, prompt: str = "") -> None:
        """Write the run's folder."""
        self._write({"event": "run", "folder": str(folder)})

    def _write(self, record: dict[str, Any]) -> None:
        write_line(jsonlib.dumps(record, allow_nan=False))


class PlainReporter(Reporter):
    """Writes plain lines to stderr, for logs and pipes; the plan's reasons only where `explain` asks."""

    wants_ending = True

    def __init__(self, *, explain: bool = False) -> None:
        self.console = stderr_console()
        self._explain = explain
        self._validations: list[Measured] = []
        self._passes = self._seconds = 0.0
        self._reason = ""
        self._vocab_size = 2**20  # until the plan says
        self._dropout = self._told_dropout = False
        self._steps = self._told_steps = 0
        self._interrupted = False
        self._piped = False
        self._planned = False
        self._began = self._told = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say that Ctrl-C came too early for anything to be kept."""
        if kind is KeyboardInterrupt and not self._planned:
            self.line("stopped", "by Ctrl-C before training began; nothing was saved")

    def busy(self, what: str, fraction: float = 0.0) -> None:
        """Say what is being prepared when that takes long."""
        if time.monotonic() - self._told > QUIET_SECONDS:
            self._told = time.monotonic()
            self.line("", f"{what} {fraction:.0%}" if fraction else what)

    def line(self, label: str, text: str, style: str = "") -> None:
        """Write one labelled line."""
        if not self.console.is_terminal:
            self.console.print(Text(f"{label:<{LABEL}}{safe(text)}"), soft_wrap=True)
            return
        row = Table.grid()
        row.add_column(width=LABEL, style="bold cyan")
        row.add_column(style=style)
        row.add_row(label, Text(safe(text)))
        self.console.print(row, width=min(self.console.width, WIDEST))

    def text(self, corpus: "Corpus") -> None:
        """Say what the text is, and name what was skipped."""
        names = {"-": "standard input"}
        what = ", ".join(names.get(source, Path(source).name) for source in corpus.sources[:3])
        if not corpus.sources:
            what = "the Python language reference, since no file was given"
        elif len(corpus.sources) > 3:
            what += f" and {len(corpus.sources) - 3} more"
        total = corpus.train.bytes + corpus.val.bytes
        documents = "" if corpus.documents == 1 else f" in {count(corpus.documents)} files"
        self.line(
            "text",
            f"{what}: {size(total)}{documents}; {count(corpus.train.characters)} characters to train on, "
            f"{count(corpus.val.characters)} to validate on",
        )
        if corpus.skipped:
            self.line("", f"{count(len(corpus.skipped))} skipped:", "dim")
            for skipped in corpus.skipped[:SHOWN_SKIPPED]:
                self.line("", f"  {skipped.path}: {skipped.reason}", "dim")
            if len(corpus.skipped) > SHOWN_SKIPPED:
                self.line("", f"  and {count(len(corpus.skipped) - SHOWN_SKIPPED)} more", "dim")

    def notes(self, notes: Iterable[str]) -> None:
        """Say each note."""
        for note in notes:
            self.line("note", note, "dim")

    def plan(self, plan: "Planned") -> None:
        """Say what will be trained, in three lines, and where it is asked for why mygpt chose what it did."""
        config, tokens = plan.config, plan.train_tokens
        self._planned = True
        self._piped = "-" in (*config.files, config.val_file)
        self._dropout = bool(config.dropout or config.bpe_dropout)
        self._vocab_size = plan.vocab_size
        self.line(
            "tokens",
            f"{plan.tokenizer}, vocabulary of {count(plan.vocab_size)}: {count(tokens)} tokens to train on, "
            f"{plan.train_characters / tokens:.2f} characters per token",
        )
        self.line(
            "model",
            f"{config.arch}, {count(plan.parameters)} parameters: {count_of(config.layers, 'layer')}, "
            f"{count_of(config.heads, 'head')}, "
            f"width {config.width}, context {config.context}",
        )
        left = config.steps - plan.step
        epochs = left * plan.tokens_per_step / tokens
        again = f", from step {count(plan.step)} on" if plan.step else ""
        within = f" within {duration(plan.seconds)}" if plan.seconds else ""
        self.line(
            "training",
            f"{count_of(left, 'step')} of {count(plan.tokens_per_step)} tokens{again}{within}, "
            f"{epochs:.1f} passes over the text; {config.optimizer}, {plan.dtype} on {plan.device}",
        )
        if config.members > 1:
            saved = f"one of {count(plan.saved_parameters)} parameters that averages them"
            self.line("", f"{config.members} models, one after another, saved as {saved}")
        for number, line in enumerate(reason_lines(plan) if self._explain else ()):
            self.line("" if number else "chosen", line, "dim")

    def past(self, history: "RunHistory") -> None:
        """Remember the validations before a run was resumed."""
        self._validations = list(history.validations)

    def remember(self, event: "Event") -> None:
        """Keep what the verdict at the end is about."""
        from mygpt_cli.training.events import Evaluated, Finished, Progress

        if isinstance(event, Progress):
            self._passes = event.epoch
        elif isinstance(event, Evaluated):
            self._validations.append(event)
        elif isinstance(event, Finished):
            self._reason, self._seconds = event.reason, event.seconds

    def event(self, event: "Event") -> None:
        """Write one line for an interval, a validation, or the end."""
        from mygpt_cli.training.events import (
            Corrected,
            Evaluated,
            Finished,
            Noted,
            Progress,
            Sampled,
            Started,
        )

        self.remember(event)
        if isinstance(event, Started):
            self._steps = event.steps
        elif isinstance(event, Corrected):
            self._steps = event.steps
            self.corrected(event)
        elif isinstance(event, Progress):
            self.line(
                "step",
                f"{event.step}/{self._steps}  loss {event.loss:.4f}  lr {event.lr:.2e}  "
                f"grad {event.grad_norm:.2f}  {count(round(event.tokens_per_second))} tokens/s  "
                f"{duration(event.seconds)}",
            )
        elif isinstance(event, Evaluated):
            self.line("validate", evaluated_line(event))
            if self._dropout and not self._told_dropout and event.train_loss > event.val_loss:
                self._told_dropout = True
                self.line("note", ABOVE, "dim")
        elif isinstance(event, Sampled) and self._reason:
            self.sample(event.text)
        elif isinstance(event, Sampled):
            self.line("sample", sample_line(event), "italic")
        elif isinstance(event, Noted):
            self.line("note", event.text)
        elif isinstance(event, Finished):
            self.ended(event)

    def corrected(self, event: "Corrected") -> None:
        """Say that the number of steps is another when it has changed much since it was told last."""
        told = self._told_steps = self._told_steps or event.before
        if abs(event.steps - told) >= SMALL * told:
            self._told_steps = event.steps
            self.line("note", f"adjusted to {event.steps:,} steps (from {told:,}) to finish on time", "dim")

    def ended(self, event: "Finished") -> None:
        """Say how the run ended."""
        self._interrupted = event.reason.startswith("SIG")
        label = "stopped" if self._interrupted else "done"
        self.line(label, finished_line(event, time.monotonic() - self._began))

    def sample(self, text: str) -> None:
        """Show a few lines of what the model writes when it has been trained."""
        lines = [line.rstrip() for line in text.split("\n") if line.strip()]
        first = 1 if len(lines) > SAMPLE_LINES else 0  # it may begin within a word
        for number, line in enumerate(lines[first : first + SAMPLE_LINES]):
            self.line("" if number else "sample", line, "italic")

    def finish(self, folder: Path, prompt: str = "") -> None:
        """Judge the run, say what can be done next, and name the run's folder on stdout."""
        self.conclude(folder, prompt)
        super().finish(folder)

    def conclude(self, folder: Path, prompt: str) -> None:
        """Write a verdict, and the commands that make sense now."""
        judged = verdict(self._validations, self._passes, self._reason, self._vocab_size)
        if judged:
            self.line("verdict", VERDICTS[judged], "bold")
        name = quote(str(folder))
        again = " < FILE  # the same text" if self._piped else ""
        commands = [f"mygpt sample {name}" + (f" --prompt {quote(prompt)}" if prompt else "")]
        if self._interrupted:
            commands.insert(0, f"mygpt train --resume {name}{again}")
        elif judged == "still improving":
            minutes = max(1, round(self._seconds / 60))
            commands.append(f"mygpt train --resume {name} --time {minutes}m{again}")
        elif judged == "memorising":
            commands.append(f"mygpt inspect {name} --copied --prompt {quote(prompt)}")
        commands.append(f"mygpt inspect {name}")
        for number, command in enumerate(commands):
            self.line("" if number else "next", command, "bold")


def reason_lines(plan: "Planned") -> list[str]:
    """Describe what was chosen and why, one line for each reason; the names are those of the flags."""
    lines: dict[str, list[str]] = {}
    for name in filter(plan.reasons.__contains__, knobs(TrainConfig)):
        value, reason = getattr(plan.config, name), plan.reasons[name]
        if name == "time":
            value = duration(plan.seconds or 0.0)
        elif isinstance(value, int):
            value = count(value)
        elif isinstance(value, float):
            value = f"{value:.2g}"
        lines.setdefault(reason, []).append(f"{name.replace('_', '-')} {value}")
    return [f"{', '.join(chosen)}: {reason}" for reason, chosen in lines.items()]


def evaluated_line(event: "Evaluated") -> str:
    """Describe a validation."""
    mark = "  best so far" if event.best else ""
    return (
        f"step {event.step}  {event.bits_per_byte:.4f} bits per byte  {event.val_loss:.4f} nats per token  "
        f"{event.nats_per_character:.4f} per character{mark}"
    )


def finished_line(event: "Finished", whole: float) -> str:
    """Describe the end of a run whose command has taken so many seconds on the whole."""
    lasted = duration(event.seconds)
    if whole > APART * event.seconds:
        lasted += f" of training ({duration(whole)} in all)"
    best = ""
    if event.best_step is not None:
        best = f"; best {event.best_bits_per_byte:.2f} bits per byte at step {count(event.best_step)} {BITS}"
    why = ""
    if event.reason.startswith("SIG"):
        why = f" by {'Ctrl-C' if event.reason == 'SIGINT' else event.reason}, work saved"
    elif event.reason != "done":
        why = f", since validation {event.reason}"
    refused = (
        f"; {count_of(event.refused, 'step')} skipped, since their loss or gradient was not usable"
        if event.refused
        else ""
    )
    return f"{count_of(event.step, 'step')} in {lasted}{why}{best}{refused}"

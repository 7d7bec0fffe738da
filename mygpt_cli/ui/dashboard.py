"""The live view of a training run on a terminal."""

import math
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mygpt_cli.ui.bar import Bar
from mygpt_cli.ui.chart import Chart, Line, Panel, Point, draw, thin
from mygpt_cli.ui.history import loss_range
from mygpt_cli.ui.keys import keys_unseen
from mygpt_cli.ui.samples import Sample, sample_strip
from mygpt_cli.ui.train import BITS, LABEL, WIDEST, PlainReporter, Reporter
from mygpt_cli.ui.units import count, duration, size

if TYPE_CHECKING:
    from mygpt_cli.inspection.history import RunHistory, Validation
    from mygpt_cli.training.events import Evaluated, Event, Progress, Started

CURVE_HEIGHT = 5
MOST_POINTS = 1000  # kept of the curve; older ones share a point


class Dashboard(PlainReporter):
    """Plan lines above, and below them a view that is redrawn in place until the run ends."""

    def __init__(self, *, explain: bool = False) -> None:
        super().__init__(explain=explain)
        self._view = RunView()
        self._live: Live | None = None
        self._keys = ExitStack()  # unseen until it is closed
        self._status = self.console.status("")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._status.stop()
        self._stop()
        super().__exit__(kind, error, trace)

    def _stop(self) -> None:
        """Leave the last view on the screen, and let keys be seen again."""
        with self._keys:
            if self._live:
                self._live.stop()

    def busy(self, what: str, fraction: float = 0.0) -> None:
        """Show what is being prepared beside a spinner."""
        done = f" {fraction:.0%}" if fraction else ""
        self._status.update(Text(f"{what}{done}", style="dim"))
        self._status.start()

    def line(self, label: str, text: str, style: str = "") -> None:
        """Write one labelled line above whatever moves."""
        self._status.stop()
        super().line(label, text, style)

    def past(self, history: "RunHistory") -> None:
        """Let the view begin with what happened before."""
        super().past(history)
        self._view.losses = thin(
            [(i.step, i.loss) for i in history.intervals if i.loss is not None], MOST_POINTS
        )
        self._view.validations = [(v.step, v.val_loss) for v in history.validations]
        self._view.evaluated = history.validations[-1] if history.validations else None
        self._view.best = history.best
        self._view.samples = list(history.samples)

    def event(self, event: "Event") -> None:
        """Take an event into the view."""
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
        view = self._view
        view.dropout = self._dropout
        if isinstance(event, Corrected) and view.started:
            view.started = replace(view.started, steps=event.steps)
            self.corrected(event)
        elif isinstance(event, Started):
            self._status.stop()
            view.started, view.began_at = event, time.monotonic()
            self.console.print()
            self._keys.enter_context(keys_unseen())
            self._live = Live(view, console=self.console, refresh_per_second=4, vertical_overflow="crop")
            self._live.start()
        elif isinstance(event, Progress):
            view.progress, view.progress_at = event, time.monotonic()
            if math.isfinite(event.loss):
                view.gathered.append((event.step, event.loss))
                if len(view.gathered) >= view.together:
                    view.losses += thin(view.gathered, 1)
                    view.gathered = []
                if len(view.losses) >= MOST_POINTS:
                    view.losses, view.together = thin(view.losses, MOST_POINTS // 2), 2 * view.together
        elif isinstance(event, Evaluated):
            view.evaluated = event
            if math.isfinite(event.val_loss):
                view.validations.append((event.step, event.val_loss))
            if event.best:
                view.best = event
        elif isinstance(event, Sampled) and view.ended:
            self.sample(event.text)
        elif isinstance(event, Sampled):
            view.samples.append(event)
        elif isinstance(event, Noted):
            self.line("note", event.text)
        elif isinstance(event, Finished):
            view.ended = event.reason
            self._stop()
            self.console.print()
            self.ended(event)

    def finish(self, folder: Path, prompt: str = "") -> None:
        """Judge the run, say what can be done next, and name its folder where stdout leads elsewhere."""
        self.conclude(folder, prompt)
        if not sys.stdout.isatty():
            Reporter.finish(self, folder)


def explained(line: Text, explanation: str, width: int) -> Text:
    """Return a line with its explanation behind it, or alone where there is no room for both."""
    return line.append(explanation, "dim") if line.cell_len + cell_len(explanation) <= width else line


class RunView:
    """What is known of a run so far, as a rich renderable at any width from 40 columns."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.progress: Progress | None = None
        self.evaluated: Evaluated | Validation | None = None
        self.best: Evaluated | Validation | None = None
        self.losses: list[Point] = []  # each the mean of `together` events
        self.together = 1
        self.gathered: list[Point] = []  # for the next of them
        self.validations: list[Point] = []
        self.samples: list[Sample] = []
        self.ended = ""
        self.dropout = False
        self.began_at = self.progress_at = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.started is None:
            return
        width = min(options.max_width - 3, WIDEST)  # a terminal writes ^C behind the last line
        grid = Table.grid(padding=0)
        grid.add_column(width=LABEL, style="bold cyan")
        grid.add_column(width=width - LABEL, no_wrap=True, overflow="ellipsis")
        grid.add_row("progress", self._progress_line(width - LABEL))
        if self.progress:
            grid.add_row("loss", self._loss_line(width - LABEL))
            if self.best and self.best.bits_per_byte is not None:
                best = (f"{self.best.bits_per_byte:.2f}", "bold green")
                at = (f" bits per byte at step {count(self.best.step)}", "dim")
                grid.add_row("best", explained(Text.assemble(best, at), f" {BITS}", width - LABEL))
            if curve := self._curve(width - LABEL, ascii_only=options.ascii_only):
                grid.add_row("", curve)
            grid.add_row("speed", self._speed_line(width - LABEL))
        if self.samples:
            grid.add_row("samples", sample_strip(self.samples))
        yield grid

    def _progress_line(self, width: int) -> Table:
        assert self.started  # noqa: S101 - rendered only after the start
        step = self.progress.step if self.progress else self.started.step
        fraction = step / self.started.steps
        done = step - self.started.step
        left = ""
        if self.ended == "" and done:
            whole = (self.progress_at - self.began_at) * (self.started.steps - step) / done
            left = f"  {duration(max(0.0, whole - (time.monotonic() - self.progress_at)))} left"
        line = Table.grid(padding=0)
        line.add_column(width=max(8, min(40, width - 36)))
        line.add_column(no_wrap=True)
        line.add_row(Bar(fraction), f"  {fraction:.0%}  {count(step)}/{count(self.started.steps)}{left}")
        return line

    def _loss_line(self, width: int) -> Text:
        assert self.progress  # noqa: S101 - rendered only after the first interval
        line = Text.assemble((f"{self.progress.loss:.3f}", "bold"), (" training", "dim"))
        if self.evaluated:
            line.append_text(
                Text.assemble("   ", (f"{self.evaluated.val_loss:.3f}", "bold"), (" validation", "dim"))
            )
            if self.dropout and self.progress.loss > self.evaluated.val_loss:
                line = explained(line, "   dropout makes training higher", width)
        return line

    def _curve(self, width: int, *, ascii_only: bool) -> Text | None:
        if len(self.losses) < 4:
            return None
        assert self.started  # noqa: S101 - losses come after the start
        low, high = loss_range(self.losses + self.validations)
        lines = [Line("", self.losses), Line("", self.validations, "magenta", "points")]
        panels = [Panel("", lines, low, high, height=CURVE_HEIGHT)]
        chart = Chart("", "steps", self.started.steps, panels, legend=False)
        return Text("\n").join(draw(chart, min(60, width), ascii_only=ascii_only))

    def _speed_line(self, width: int) -> Text:
        assert self.progress  # noqa: S101 - rendered only after the first interval
        p = self.progress
        parts = [
            f"{count(round(p.tokens_per_second))} tokens/s",
            f"learning rate {p.lr:.1e}",
            f"{p.epoch:.1f} epochs",
            f"gradient norm {p.grad_norm:.2f}",
            size(p.memory) if p.memory else "",
        ]
        text = ""
        for part in filter(None, parts):
            longer = f"{text} · {part}" if text else part
            if len(longer) > width:
                break
            text = longer
        return Text(text, style="dim")

"""How a run has gone, as a sentence and a chart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from mygpt_cli.ui.chart import Chart, Line, Panel, Point, value_range
from mygpt_cli.ui.samples import sample_strip
from mygpt_cli.ui.text import one_line
from mygpt_cli.ui.units import count, duration

if TYPE_CHECKING:
    from mygpt_cli.inspection.history import RunHistory

FALL = 0.05  # fraction of the steps in which the loss falls too far to share a scale with what follows


def render_history(history: "RunHistory") -> list[RenderableType]:
    """Render a run: its name, how far it is, its notes, and its curves once there are any."""
    title = Text(one_line(history.folder), style="bold", overflow="fold")
    parts: list[RenderableType] = [title, Text(state_of(history), "bold green" if history.running else "")]
    parts += [Text(f"note: {one_line(note)}", style="dim") for note in history.notes]
    chart = loss_chart(history)
    parts.append(Text())
    if chart:
        parts += [chart, Text()]
    if history.samples:
        parts += [Text("samples while it was trained", style="bold"), sample_strip(history.samples), Text()]
    return parts


def state_of(history: "RunHistory") -> str:
    """Say how far a run is, or how it ended."""
    if not history.intervals and not history.validations:
        return "running, nothing measured yet" if history.running else "nothing measured"
    steps = "" if not history.steps else f" of {count(history.steps)} ({history.share:.0%})"
    after = "" if history.seconds is None else f", {duration(history.seconds)}"
    at = f"step {count(history.step)}{steps}{after}"
    if history.running:
        return f"running: {at}"
    if history.reason == "done":
        return f"done: {count(history.step)} steps{after}"
    if history.reason is None:
        return f"cut off: {at}"
    if history.reason.startswith("SIG"):
        return f"stopped by {'Ctrl-C' if history.reason == 'SIGINT' else one_line(history.reason)}: {at}"
    return f"ended early, since validation {one_line(history.reason)}: {at}"


def loss_chart(history: "RunHistory") -> Chart | None:
    """Return the losses and the learning rate over the steps, or None where there is nothing to plot."""
    raw: list[Point] = [(i.step, i.loss) for i in history.intervals if i.loss is not None]
    smoothed = [(i.step, i.smoothed) for i in history.intervals if i.smoothed is not None]
    validated: list[Point] = [(v.step, v.val_loss) for v in history.validations]
    if not raw and not validated:
        return None
    x_high = float(max(history.step, history.steps or 1 if history.running else 1))
    low, high = loss_range(raw + validated)
    noisy = raw != smoothed
    lines = [Line("", raw, kind="faint")] if noisy else []
    if smoothed:
        name = f"training, {'smoothed, ' if noisy else ''}last {smoothed[-1][1]:.4f}"
        lines.append(Line(name, smoothed))
    if validated:
        lines.append(Line(f"validation, last {validated[-1][1]:.4f}", validated, "magenta", "points"))
    right = None
    if best := history.best:
        bits = f"{best.val_loss:.4f}"
        if best.bits_per_byte and best.val_loss > 0:
            bits = f"{best.bits_per_byte:.4f} bits per byte"
            right = ("bits per byte", best.bits_per_byte / best.val_loss)
        name = f"best {bits} at step {count(best.step)}"
        lines.append(Line(name, [(best.step, best.val_loss)], "green", "best"))
    panels = [Panel("loss, nats per token", lines, low, high, right)]
    rates = [(i.step, i.lr) for i in history.intervals if i.lr is not None]
    if rates:
        top = max(rate for _, rate in rates) or 1.0
        panels.append(Panel("learning rate", [Line("", rates, "blue")], 0.0, 1.04 * top, height=3))
    return Chart(one_line(history.folder), "steps", x_high, panels)


def loss_range(points: Sequence[Point]) -> tuple[float, float]:
    """Return the ends of an axis for losses over steps: those of the first fall may lie above it."""
    last = max(step for step, _ in points)
    return value_range([loss for step, loss in points if step >= FALL * last])

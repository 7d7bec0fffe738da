"""A bar that shows a fraction."""

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import StyleType

EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Bar:
    """A horizontal bar over a fraction of the width it is given, in eighths of a cell."""

    fraction: float  # 0 to 1
    style: StyleType = "cyan"

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(4, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = draw_bar(self.fraction, options.max_width, ascii_only=options.ascii_only)
        yield Segment(text, console.get_style(self.style))
        yield Segment.line()


def draw_bar(fraction: float, width: int, *, ascii_only: bool = False) -> str:
    """Return a bar over a fraction (0 to 1) of `width` cells, filled up with spaces.

    A fraction above 0 is never quite invisible.
    """
    if ascii_only:
        return ("#" * round(fraction * width)).ljust(width)
    eighths = max(round(fraction * width * 8), 1 if fraction > 0 else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)

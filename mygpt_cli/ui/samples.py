"""What a model wrote while it was trained, as a strip of lines: from gibberish to sentences."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from rich.console import Group
from rich.text import Text

from mygpt_cli.ui.text import head, one_line
from mygpt_cli.ui.units import duration

MOST = 8  # lines
MOST_SHOWN = 120  # cells of each


class Sample(Protocol):
    """A text that was written after so many seconds of training."""

    @property
    def seconds(self) -> float | None:
        """None where nobody knows."""

    @property
    def text(self) -> str:
        """As the model wrote it."""


AnySample = TypeVar("AnySample", bound=Sample)


def sample_line(sample: Sample) -> str:
    """Return a sample as one line."""
    when = "" if sample.seconds is None else f"{duration(sample.seconds)}: "
    return when + written(sample, MOST_SHOWN)


def written(sample: Sample, cells: int) -> str:
    """Return the text of a sample as one line of at most so many cells."""
    return head(one_line(sample.text.strip()), cells) or "(no text)"


def sample_strip(samples: Sequence[Sample]) -> Group:
    """Return the first and the latest samples, a line each, cut off where the screen ends."""
    # A console takes apart a Text that it is given alone, and breaks its lines as any others.
    lines = map(sample_line, first_and_last(samples, MOST))
    return Group(*(Text(line, style="italic", no_wrap=True, overflow="ellipsis") for line in lines))


def first_and_last(samples: Sequence[AnySample], most: int) -> list[AnySample]:
    """Return at most so many samples: the first one, and the latest."""
    return list(samples) if len(samples) <= most else [samples[0], *samples[1 - most :]]

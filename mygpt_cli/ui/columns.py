"""Light tables, and columns that go on in further tables where a screen has no room for all."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

NARROWEST = 60  # a screen narrower than this cuts the lines off
ROOMY = 72  # cells from which there is room for more than the numbers
WIDEST = 100


def fitting(width: int) -> int:
    """Return the width of a view on a screen of this width."""
    return max(NARROWEST, min(width, WIDEST))


def light_table(width: int, *, gap: int = 2, header: bool = True, footer: bool = False) -> Table:
    """Return an empty table with one thin line under its header and 1 or 2 spaces between its columns."""
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        width=width,
        padding=(0, gap - 1, 0, 0),
        pad_edge=False,
        border_style="dim",
        header_style="dim",
        show_header=header,
        show_footer=footer,
    )


def pack(widths: Sequence[int], room: int, gap: int) -> Iterator[range]:
    """Yield which columns of these widths, each with a gap, go into each table with this room for them."""
    start, taken = 0, 0
    for at, width in enumerate(widths):
        if at > start and taken + width + gap > room:
            yield range(start, at)
            start, taken = at, 0
        taken += width + gap
    yield range(start, len(widths))


def percent(fraction: float) -> str:
    """Write a fraction (0 to 1) as a percentage of one decimal; what is not 0 never looks like it."""
    return "<0.1%" if 0 < fraction < 0.0005 else f"{fraction:.1%}"

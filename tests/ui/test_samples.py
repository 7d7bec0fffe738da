"""Samples as lines: one each, whatever they hold and however wide the screen is."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from mygpt_cli.inspection.history import Written
from mygpt_cli.ui.console import show
from mygpt_cli.ui.samples import MOST_SHOWN, sample_line, sample_strip


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("width", [30, 80, 200])
def test_each_sample_is_one_line(width: int, watched: bool) -> None:
    written = [Written(k, 5.0 * 2**k, "Many words, and\nlines of them. " * 20) for k in range(3)]
    file = io.StringIO()
    show(Console(file=file, width=width, force_terminal=watched, color_system=None), sample_strip(written))
    lines = file.getvalue().splitlines()
    assert [line[:6].strip() for line in lines] == ["5.0 s:", "10 s:", "20 s:"]
    assert all(line.rstrip().endswith("…") and cell_len(line) <= width for line in lines)


def test_what_is_left_out_has_a_mark() -> None:
    assert sample_line(Written(1, None, "a" * MOST_SHOWN)) == "a" * MOST_SHOWN
    assert sample_line(Written(1, None, "a" * (MOST_SHOWN + 1))) == "a" * (MOST_SHOWN - 1) + "…"


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_a_sample_without_text_says_so(text: str) -> None:
    assert sample_line(Written(1, 5.0, text)) == "5.0 s: (no text)"

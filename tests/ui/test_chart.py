"""Charts on a screen: curves in dots, round ticks, and their shape at every width."""

import io
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mygpt_cli.inspection.history import RunHistory
from mygpt_cli.ui.chart import Chart, Line, Panel, draw, round_ticks, thin, tick_label, value_range
from mygpt_cli.ui.curve import Canvas
from mygpt_cli.ui.history import loss_chart, render_history
from tests.helpers.screens import history


def test_a_falling_line_is_a_diagonal() -> None:
    canvas = Canvas(2, 1)
    canvas.line([(0, 1), (1, 0)])
    assert [line.plain for line in canvas.lines()] == ["⠑⢄"]
    canvas = Canvas(3, 1, ascii_only=True)
    canvas.line([(0, 1), (1, 0)])
    assert [line.plain for line in canvas.lines()] == ["'-."]


def test_a_line_leaves_through_the_edge() -> None:
    canvas = Canvas(3, 2)
    canvas.line([(0, 1e300), (0.5, 0.5), (1, -1e300)])
    canvas.sign(0, 2, "o")
    assert all(len(line.plain) == 3 for line in canvas.lines())
    assert "o" not in "".join(line.plain for line in canvas.lines())


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(-1e300, 1e300)), max_size=60),
    st.integers(1, 40),
    st.integers(1, 6),
    st.booleans(),
)
def test_a_canvas_has_the_size_it_is_given(
    points: list[tuple[float, float]], width: int, height: int, ascii_only: bool
) -> None:
    canvas = Canvas(width, height, ascii_only=ascii_only)
    canvas.line(sorted(points))
    lines = [line.plain for line in canvas.lines()]
    assert [len(line) for line in lines] == [width] * height
    if ascii_only:
        assert "".join(lines).isascii()


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 12))
def test_ticks_are_round_few_and_inside(low: float, span: float, most: int) -> None:
    assume(span > 1e-9 * abs(low))
    ticks, step = round_ticks(low, low + span, most)
    assert 2 <= len(ticks) <= max(most, 5) + 1
    assert all(low - 1e-6 * span <= tick <= low + 1.000001 * span for tick in ticks)
    assert f"{step:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("low", "high", "most", "labels"),
    [
        (0, 1496, 4, ["0", "500", "1,000"]),
        (3.52, 4.35, 6, ["3.6", "3.8", "4.0", "4.2"]),
        (0, 0.0052, 2, ["0", "0.005"]),
        (0, 0.0003, 2, ["0", "0.0002"]),
        (0, 0.00001, 2, ["0", "5e-6", "1e-5"]),
        (0, 3e12, 3, ["0", "1e+12", "2e+12", "3e+12"]),
        (-1.0, 1.0, 4, ["-1.0", "-0.5", "0", "0.5", "1.0"]),
    ],
)
def test_tick_labels(low: float, high: float, most: int, labels: list[str]) -> None:
    ticks, step = round_ticks(low, high, most)
    assert [tick_label(tick, step) for tick in ticks] == labels


def test_many_points_are_averaged() -> None:
    points = [(float(i), float(i % 2)) for i in range(1000)]
    assert thin(points, 1000) == points
    assert thin(points, 10) == [(100 * i + 49.5, 0.5) for i in range(10)]


def test_a_range_has_room() -> None:
    assert value_range([1.0, 3.0]) == pytest.approx((0.92, 3.08))
    for values in ([2.0], [0.0], [], [-5.0, -5.0]):
        low, high = value_range(values)
        assert low < high


def test_a_run_at_60_columns() -> None:
    chart = loss_chart(history())
    assert chart is not None
    assert "".join(f"{line.plain.rstrip()}\n" for line in draw(chart, 60)) == (
        """\
loss, nats per token                           bits per byte
    6 ┤  ⢠                                             ├ 3.0
      │  ⠈⡆                                            │
      │   ⢱                                            │
    5 ┤   ⠘⡄                                           ├ 2.5
      │    ⢇                                           │
      │    ⠸⡀                                          │
    4 ┤     ⢣                                          ├ 2.0
      │      ⢣                                         │
    3 ┤       ⠑⠤⡀                                      ├ 1.5
      │         •⠑⠢⠤⡀     •                  •        •│
      │             ⠈⠉⠑⠒⠒⠤⠤⠤⠤⠤⣀⣀⣀⣀⡀◆                   │
      │                           ⠈⠉⠉⠉⠉⠉⠉⠉⠉⠉⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒│
learning rate
0.004 ┤  ⠈⠉⠒⠒⠢⠤⠤⠤⠤⣀⣀⣀⣀⡀
0.002 ┤               ⠈⠉⠉⠉⠉⠑⠒⠒⠒⠒⠢⠤⢄⣀⣀⣀⣀⡀
    0 ┤                                ⠈⠉⠉⠉⠉⠒⠒⠒⠒⠒⠤⠤⠤⠤⢄⣀
      └┴────────┴─────────┴────────┴─────────┴────────┴
       0        20        40       60        80       steps
⠒⠒ training, last 2.2000   • validation, last 2.9000
◆ best 1.2500 bits per byte at step 60
"""
    )


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("running", [False, True])
def test_a_chart_keeps_its_shape(width: int, ascii_only: bool, running: bool) -> None:
    chart = loss_chart(history(running=running))
    assert chart is not None
    lines = [line.plain for line in draw(chart, width, ascii_only=ascii_only)]
    assert all(cell_len(line) <= width for line in lines)
    left = next(line.index(corner) for corner in ("└", "++") for line in lines if corner in line)
    axes = [line for line in lines if line[left : left + 1] in ("|", "+", "│", "┤")]
    assert len(axes) == 12 + 3 + ascii_only
    assert max(map(cell_len, lines)) == width
    if ascii_only:
        assert "".join(lines).isascii()
    drawn = "".join(line[left:] for line in lines[:13])
    assert drawn.count("o" if ascii_only else "•") >= 3
    assert drawn.count("@" if ascii_only else "◆") == 1


def test_a_run_says_how_far_it_is() -> None:
    def state(of: RunHistory) -> str:
        return str(render_history(of)[1])

    assert state(history()) == "done: 100 steps, 10 s"
    assert state(history(running=True)) == "running: step 100 of 400 (25%), 10 s"
    assert state(replace(history(), reason="SIGINT")).startswith("stopped by Ctrl-C: step 100 of 100")
    assert state(replace(history(), reason=None)).startswith("cut off: step 100")
    worse = replace(history(), reason="no longer improves", steps=200)
    assert state(worse) == "ended early, since validation no longer improves: step 100 of 200 (50%), 10 s"
    nothing = replace(history(running=True), intervals=(), validations=(), best=None)
    assert state(nothing) == "running, nothing measured yet"
    assert loss_chart(nothing) is None


def test_names_and_notes_are_shown_safely() -> None:
    bad = replace(history(), folder="x\x1b[2J", reason="\x1b[31m", notes=("a\x1b[1mb\u202e",))
    file = io.StringIO()
    console = Console(file=file, width=80, color_system=None)
    for part in render_history(bad):
        console.print(part)
    assert "\x1b" not in file.getvalue()
    assert "\u202e" not in file.getvalue()


def test_an_ascii_screen_gets_ascii() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=60)
    for part in render_history(history()):
        console.print(part)
    file.flush()
    assert b"@ best 1.2500 bits per byte at step 60" in file.buffer.getvalue()


def test_numbers_at_the_edge_of_what_floats_hold() -> None:
    lines = [Line("x", [(0.0, -1e300), (1.0, 1e300)])]
    chart = Chart("", "steps", 1.0, [Panel("y", lines, *value_range([-1e300, 1e300]))])
    assert all(cell_len(line.plain) <= 60 for line in draw(chart, 60))

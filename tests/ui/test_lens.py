"""How the prediction after each layer looks, at all widths and with text that tries to misbehave."""

import io
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group

from mygpt_cli.ui.export import Shown, to_html, to_svg
from mygpt_cli.ui.lens import render_lens, show_lens
from mygpt_cli.ui.shade import shade
from tests.helpers.screens import EVIL, VIEWS, check_harmless, position, render


def test_a_lens_at_60_columns() -> None:
    assert render(Group(*render_lens(VIEWS, 60, explain=True)), 60) == (
        """\
lens   the cat

position  1        2
token     ␣the     ␣cat
───────────────────────────
embedding  x       ░↵
    0 of 2 answers are final; on average 1.00 bits from the
    last layer's.
layer 1   ░␣cat    ▒<E2 80>
    1 of 2 answers is final; on average 0.50 bits from the
    last layer's.
layer 2   ▓␣cat    █␣sat
    2 of 2 answers are final; on average 0.00 bits from the
    last layer's.
decided   1        2
    From this layer on, the best token is the final answer.
· from 2%, ░ 12.5%, ▒ 25%, ▓ 50%, █ 75%

after ␣cat, position 2: ␣sat

  after      token  its own    rank   share  entropy    away
────────────────────────────────────────────────────────────
  embedding  ↵        13.0%       2    6.5%     1.50    1.00
    With the embedding alone, it would say '↵' (13.0%); its
    answer '␣sat' is number 2 (6.5%).
  layer 1    <E2 …    30.0%  50,257   <0.1%     1.50    0.50
    Stopping after layer 1, it would say '<E2 80>' (30.0%);
    its answer '␣sat' is number 50,257 (<0.1%).
▸ layer 2    ␣sat     80.0%       1   80.0%     1.50    0.00
    The last layer is the model itself: '␣sat', 80.0%.

Each row is what it would say next if it stopped there; rank
and share are the final answer's there. ▸ From layer 2 on,
it says '␣sat'.
"""
    )


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_screen_keeps_its_shape(width: int, explain: bool) -> None:
    wide = "日本語\U0001f600\u202e\u200b".encode() * 5
    many = [replace(VIEWS[0], index=n, token=wide) for n in range(990, 1024)]
    long = position(1, wide, *[(wide, 0.5, 50_257)] * 24, (b"a", 1.0, 1))
    for views in (VIEWS, many, [long]):
        parts = render_lens(views, width, explain=explain)
        screen = render(Group(*parts), width)
        lines = screen.splitlines()
        assert all(cell_len(line) <= width for line in lines)
        assert screen.replace("\n", "").isprintable()
        assert ("the last " in screen) == (views is many)
        if not explain:
            # A line for each row of both tables: nothing wraps.
            _, grid, _, table, _ = screen.split("\n\n")
            assert len(grid.splitlines()) == 5 + len(views[0].guesses) + (views is many)
            assert len(table.splitlines()) == 2 + len(views[0].guesses)
    # A file is up to 100 cells wide, whatever the terminal is.
    assert render(Group(*render_lens(many, 120)), 100) == render(Group(*render_lens(many, 100)), 100)


@settings(max_examples=25)
@given(token=st.one_of(st.binary(max_size=12), st.text().map(str.encode)))
def test_tokens_never_reach_the_terminal_raw(token: bytes) -> None:
    views = [position(1, token, (token, 0.5, 2), (token, 0.5, 1))]
    screen = render(Group(*render_lens(views, 60, explain=True)), 60)
    assert screen.replace("\n", "").isprintable()
    assert all(cell_len(line) <= 60 for line in screen.splitlines())


def test_a_text_that_means_harm_is_shown() -> None:
    views = [position(1, EVIL.encode(), (EVIL.encode(), 0.5, 1))]
    check_harmless(to_svg("lens", render_lens(views, 80, explain=True), 80))
    assert "<script>" in check_harmless(to_html(EVIL, render_lens(views, 80), 80)).text


def test_shades_rise_and_have_an_ascii_form() -> None:
    shares = (0.0, 0.02, 0.125, 0.3, 0.5, 1.0)
    assert "".join(map(shade, shares)) == " ·░▒▓█"
    assert "".join(shade(share, ascii_only=True) for share in shares) == " .:+#@"
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    Console(file=file, width=60).print(*render_lens([position(1, b"a", (b"b", 0.6, 1))], 60)[2:3])
    file.flush()
    assert b"#b" in file.buffer.getvalue()
    assert b"# 50%" in file.buffer.getvalue()


def test_json_has_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    show_lens(VIEWS, Shown(json=True))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["index"], first["text"], first["answer_text"], first["decided"]) == (1, " the", " cat", 1)
    assert second["guesses"][1] == {
        "layer": 1,
        "id": VIEWS[1].guesses[1].id,
        "text": "\N{REPLACEMENT CHARACTER}",
        "bytes": "e280",
        "probability": 0.3,
        "answer_rank": 50_257,
        "answer_probability": 0.3 / 50_257,
        "entropy": 1.5,
        "divergence": 0.5,
    }

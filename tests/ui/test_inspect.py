"""How inspection looks: expected screens, widths, colour or none, and text that tries to misbehave."""

import io
import json
import os
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mygpt_cli.config.sampling import Sampling
from mygpt_cli.ui.bar import draw_bar
from mygpt_cli.ui.columns import percent
from mygpt_cli.ui.console import console_for, show
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.steps import render_footer, render_settings, render_step, show_steps
from mygpt_cli.ui.summary import render_summary, show_summary
from tests.helpers.screens import SAMPLING, SUMMARY, VIEW, Terminal, candidate, render


def test_a_step_at_80_columns() -> None:
    assert render(render_step(VIEW, 80)) == (
        """\
step 1  Once upon

       token              id   logit  model    temp   top-k  final
────────────────────────────────────────────────────────────────────────────────
     1 ␣a                 41    4.00  50.0%   50.0%   75.0%  75.0% █████████▊
▸    2 ↵                  42    3.00  25.0%   50.0%   25.0%  25.0% ███▎
     3 <E2 80>            43    2.00  12.5%   50.0%     cut    cut by top-k
       1,000 more                     12.5%   20.0%     cut    cut

  draw 0.375000 in [0.250000, 0.500000): ↵
  uncertainty: like choosing among 5.7 tokens → 1.8

"""
    )


def test_a_greedy_step_at_60_columns() -> None:
    candidates = tuple(replace(one, stages=one.stages[:1]) for one in VIEW.candidates)
    view = replace(VIEW, filters=("greedy",), candidates=candidates)
    assert render(render_step(view, 60), 60) == (
        """\
step 1  Once upon

         token           id    logit   model
────────────────────────────────────────────────────────────
      1  ␣a              41     4.00   50.0%  ███████
▸     2  ↵               42     3.00   25.0%  ███▌
      3  <E2 80>         43     2.00   12.5%  █▊
         1,000 more                    12.5%  █▊

  picked as the best: ↵
  uncertainty: like choosing among 5.7 tokens

"""
    )


def test_a_summary_at_80_columns() -> None:
    assert render(render_summary(SUMMARY, 80)) == (
        """\
checkpoints/tiny-001/best

model      nanochat: 2 layers, 4 heads of 16, width 64
           context 128 tokens, feed-forward 256 (relu2)
           rotary positions, RMSNorm, query/key norm
           untied head, logits capped at 15
tokenizer  byte pairs, 512 tokens, end of text is 511
training   step 300 of 400, 307,200 tokens seen, 1 m 11 s
           training loss 2.5000 nats per token, the mean since step 200
           validation loss 2.7500 nats per token
           validation 2.2500 bits per byte, the best

part                tensors  parameters   share
────────────────────────────────────────────────────────────────────────────────
token embedding           1      32,768   33.3%  ██████████▍
attention                 4      32,768   33.3%  ██████████▍
head                      1      32,768   33.3%  ██████████▍

0.4 MB of weights         6      98,304  100.0%
"""
    )


def test_how_tokens_are_chosen_is_said_once() -> None:
    everything = Sampling(temperature=0.5, top_k=2, top_p=0.9, min_p=0.05, seed=7)
    assert str(render_settings(everything)) == "temperature 0.5, top-k 2, top-p 0.9, min-p 0.05, seed 7"
    assert str(render_settings(Sampling(temperature=0, seed=7))) == "greedy: the best token is always taken"
    words = Sampling(temperature=1, ban=("a\x1b", "b"), begin_with="c", no_repeat_ngram=2, seed=7)
    assert str(render_settings(words)) == "no-repeat-ngram 2, ban 'a␛' 'b', begin-with 'c', seed 7"


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_screen_keeps_its_shape(width: int, colour: bool) -> None:
    wide = candidate(1, "日本語\U0001f600".encode() * 9, 0.5, 0.75, logit=-123.456, id=50_256)
    views = [VIEW, replace(VIEW, candidates=(wide, *VIEW.candidates), context="長い".encode() * 90)]
    views.append(replace(views[1], others=replace(VIEW.others, count=50_250)))
    for view in views:
        screen = render(render_step(view, width), width, colour=colour)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", screen)
        assert ("\x1b" in screen) == colour
        lines = plain.splitlines()
        assert all(cell_len(line) <= width for line in lines)
        # One line for each row: nothing wraps, and what there is no room for goes into a second table.
        once, twice = 9 + len(view.candidates), 13 + 2 * len(view.candidates)
        assert len(lines) == (once if width > 60 else twice)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", render(render_summary(SUMMARY, width), width, colour=colour))
    assert all(cell_len(line) <= width for line in plain.splitlines())


@pytest.mark.parametrize("width", [1, 20, 40])
def test_a_screen_that_is_too_narrow_still_gets_something(width: int) -> None:
    view = replace(VIEW, context=b"Once upon a time there was a cat")
    assert "75.0%" in render(render_step(view, width), 60)
    assert render(render_step(view, width), width)
    assert render(render_summary(SUMMARY, width), width)


@given(token=st.binary(max_size=12), context=st.one_of(st.binary(max_size=90), st.text().map(str.encode)))
def test_tokens_and_context_never_reach_the_terminal_raw(token: bytes, context: bytes) -> None:
    view = replace(VIEW, candidates=(candidate(1, token, 0.5, 0.5, picked=True),), context=context)
    for renderable in (render_step(view, 60), render_footer(view)):
        screen = render(renderable, 60)
        assert screen.replace("\n", "").isprintable()
        assert all(cell_len(line) <= 60 for line in screen.splitlines())


def test_a_folder_with_escapes_in_its_name_is_shown() -> None:
    screen = render(render_summary(replace(SUMMARY, folder="runs/\x1b[2J[bold]x"), 80))
    assert "runs/␛[2J[bold]x" in screen


def test_json_has_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    show_steps([VIEW], SAMPLING, Shown(json=True))
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["context"] == "Once upon"
    assert record["candidates"][2] == {
        "rank": 3,
        "id": 43,
        "text": "\N{REPLACEMENT CHARACTER}",
        "bytes": "e280",
        "logit": 2.0,
        "probability": 0.125,
        "stages": [0.5, 0.0],
        "final_probability": 0.0,
        "cut_by": "top-k",
        "low": 0.25,
        "high": 0.25,
        "picked": False,
    }
    assert record["draw"] == 0.375
    assert record["model_spread"] == {"entropy": 2.5, "choices": 5.657}
    assert record["others"]["probability"] == 0.125
    assert record["seed"] == 7
    chosen = {"temperature": 0.5, "top_k": 2, "top_p": 1.0, "min_p": 0.0}
    assert chosen.items() <= record["settings"].items()
    show_summary(SUMMARY, None, Shown(json=True))
    record = json.loads(capsys.readouterr().out)
    assert record["parameters"] == 98_304
    assert record["model"]["layers"] == 2
    assert record["training"]["val_loss"] == 2.75


def test_steps_elsewhere_than_on_a_terminal_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    show_steps([VIEW, VIEW], SAMPLING, Shown())
    out = capsys.readouterr().out
    assert out.startswith("temperature 0.5, top-k 2, seed 7\n\nstep 1  Once upon\n")
    assert "\x1b" not in out
    assert all(line == line.rstrip() and cell_len(line) <= 80 for line in out.splitlines())
    assert out.endswith("▸ marks\nthe one picked.\n")


def test_columns_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert console_for(io.StringIO()).width == 80
    monkeypatch.setenv("COLUMNS", "60")
    assert console_for(io.StringIO()).width == 60


def test_a_dumb_terminal_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 20)))
    file = Terminal()
    show(console_for(file), render_step(VIEW, console_for(file).width))
    assert max(map(cell_len, file.getvalue().splitlines())) == 60


def test_ascii_screens_get_ascii_bars() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    show(console_for(file), render_summary(SUMMARY, 80))
    assert b"#" in file.buffer.getvalue()


def test_bars() -> None:
    assert [draw_bar(share, 4) for share in (0.0, 0.001, 0.5, 0.53, 1.0)] == [
        "    ",
        "▏   ",
        "██  ",
        "██▏ ",
        "████",
    ]
    assert draw_bar(0.5, 4, ascii_only=True) == "##  "


def test_percentages_do_not_pretend() -> None:
    assert [percent(share) for share in (0, 1e-9, 0.0005, 0.1234, 1)] == [
        "0.0%",
        "<0.1%",
        "0.1%",
        "12.3%",
        "100.0%",
    ]


def test_a_sentence_says_what_became_of_each_candidate() -> None:
    told = " ".join(render(render_step(VIEW, 100, explain=True), 100).split())
    assert "'␣a' is the model's number 1, with 50.0% of the probability, 50.0% after temperature" in told
    assert "A draw from 0.250000 up to 1.000000 picks it. " in told
    assert "A draw from 0.250000 up to 0.500000 picks it, and this one did." in told

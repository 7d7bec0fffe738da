"""How heads, contributions and heat maps look, at all widths and with text that tries to misbehave."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Group

from mygpt_cli.inspection.attention import AttentionView
from mygpt_cli.inspection.contributions import Contribution
from mygpt_cli.ui.attention import render_attention, show_attention
from mygpt_cli.ui.export import Shown, to_html, to_svg
from tests.helpers.screens import EVIL, check_harmless, render, view_of

VIEW = view_of(b"The", b" cat", b"\n")


def test_attention_at_80_columns() -> None:
    assert render(Group(*render_attention(VIEW, 80)), 80) == (
        """\
attention  The cat↵

answer ␣sat  50.0%

layer  head  looks at              logit  without  change  last token's looks
────────────────────────────────────────────────────────────────────────────────
    1     1  previous token 90%    +1.25    20.0%   -30.0  ·█·
    1     2  mixed                 -0.50    50.5%    +0.5  ·█·
    2     1  too short to tell     +0.00    75.0%   +25.0  ·█·

what adds to the logit  layer     logit       over ↵
────────────────────────────────────────────────────────────────────────────────
token embedding                  +2.000       +0.500  ██████████████████████████
attention                   1    -1.000       +1.000  █████████████
bias of the final norm           +2.000       +0.000  ██████████████████████████
rounding                         +1e-07       -2e-07
the logit itself                 +3.000       +1.500

layer 1, head 1: previous token 90%
             The  ␣cat ↵
1 The        █████
2 ␣cat       █████·····
3 ↵          ·····█████·····
· from 2%, ░ 12.5%, ▒ 25%, ▓ 50%, █ 75%

A head is named by what gets more than half of its attention: a mean over the
positions from the third on that have such a token. The change is what the
answer's probability does, in points, without the head. What matters most here
is head 1 of layer 1 (-30.0).
"""
    )


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_screen_keeps_its_shape(width: int, explain: bool) -> None:
    wide = "日本語\U0001f600\u202e\u200b".encode() * 5
    for tokens in ([b"a"], [wide], [wide] * 5, [b"a"] * 5, [b" to"] * 30, [b"x", wide] * 512):
        screen = render(Group(*render_attention(view_of(*tokens), width, explain=explain)), width)
        lines = screen.splitlines()
        assert all(cell_len(line) <= width for line in lines)
        assert screen.replace("\n", "").isprintable()
        shown = min(len(tokens), (width - len(str(len(tokens))) - 12) // 2)
        assert ("the last " in screen.split("layer 1, head 1")[1]) == (shown < len(tokens))
        if not explain:
            # A line for each head, part and token shown: nothing wraps.
            _, _, heads, parts, heat, _ = screen.split("\n\n")
            assert len(heads.splitlines()) == 2 + 3
            assert len(parts.splitlines()) == 2 + 5
            assert len(heat.splitlines()) == 3 + shown + (shown < len(tokens))
    # A file is up to 100 cells wide, whatever the terminal is.
    view = view_of(*[b"a"] * 90)
    assert render(Group(*render_attention(view, 120)), 100) == render(
        Group(*render_attention(view, 100)), 100
    )


@settings(max_examples=25)
@given(token=st.one_of(st.binary(max_size=12), st.text().map(str.encode)))
def test_tokens_never_reach_the_terminal_raw(token: bytes) -> None:
    screen = render(Group(*render_attention(view_of(b"a", token), 60, explain=True)), 60)
    assert screen.replace("\n", "").isprintable()
    assert all(cell_len(line) <= 60 for line in screen.splitlines())


def test_a_text_that_means_harm_is_shown() -> None:
    view = view_of(EVIL.encode(), b"b")
    check_harmless(to_svg("attention", render_attention(view, 80, explain=True), 80))
    assert "<script>" in check_harmless(to_html(EVIL, render_attention(view, 80), 80)).text


def test_json_has_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    show_attention(VIEW, Shown(json=True))
    record = json.loads(capsys.readouterr().out)
    assert record["tokens"][1] == {"id": 1, "text": " cat", "bytes": b" cat".hex()}
    assert (record["answer"], record["answer_text"], record["rival_text"]) == (7, " sat", "\n")
    assert record["probability"] == 0.5
    assert record["heads"][0]["measures"]["previous_token"] == 0.9
    assert record["heads"][2]["kind"] is None
    assert [len(row) for row in record["maps"][0]["weights"]] == [1, 2, 3]
    assert record["contributions"]["parts"][1] == {
        "part": "attention",
        "layer": 1,
        "logit": -1.0,
        "lead": 1.0,
    }
    assert record["contributions"]["rounding"]["logit"] == 1e-7


def told(view: AttentionView) -> str:
    """Return a view with its sentences, on one line."""
    return " ".join(render(Group(*render_attention(view, 100, explain=True)), 100).split())


def test_a_head_is_told_by_its_mean_attention() -> None:
    for sentence in (
        "On average, 90% of its attention goes to the token just before; without this head the answer is"
        " 30.0 points less likely.",
        "No kind gets half of its attention on average (itself 40%); without this head the answer is 0.5"
        " points more likely.",
        "The text is too short to say what it looks at; without this head the answer is 25.0 points more",
    ):
        assert sentence in told(VIEW)


@pytest.mark.parametrize(
    ("logit", "rival", "sentence"),
    [
        (2.0, 1.5, "Raises '␣sat' by 2.000, and '↵' by less."),
        (2.0, 2.5, "Raises '␣sat' by 2.000, but '↵' by more."),
        (2.0, 2.0, "Raises '␣sat' by 2.000, and '↵' by as much."),
        (2.0, -0.5, "Raises '␣sat' by 2.000, and lowers '↵'."),
        (-1.0, -0.5, "Lowers '␣sat' by 1.000, and '↵' by less."),
        (-1.0, -2.0, "Lowers '␣sat' by 1.000, but '↵' by more."),
        (-1.0, 0.5, "Lowers '␣sat' by 1.000, and raises '↵'."),
        (0.0, 0.5, "Raises '␣sat' by 0.000, but '↵' by more."),
    ],
)
def test_a_part_is_told_by_what_it_does_to_both_tokens(logit: float, rival: float, sentence: str) -> None:
    part = Contribution("attention", 1, logit, logit - rival)
    view = replace(VIEW, contributions=replace(VIEW.contributions, parts=(part,)))
    assert sentence in told(view)

"""How the life of a token and the temperatures look: widths, colour or none, text that misbehaves."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import Prompt
from mygpt_cli.inspection.life import LifeView, view_life
from mygpt_cli.inspection.temperatures import TemperaturesView, view_temperatures
from mygpt_cli.ui.columns import pack
from mygpt_cli.ui.life import number_of, render_life
from mygpt_cli.ui.temperatures import render_temperatures
from mygpt_cli.ui.text import quoted
from tests.helpers.screens import render
from tests.helpers.standins import byte_tokenizer, random_model

SAMPLING = Sampling(seed=2)
PROMPT = Prompt("ab\x1b[2J", tuple(b"ab\x1b[2J"))
HARD = "日本語\U0001f600\x1b[2J\u202e[bold]".encode() * 9


def life(arch: str = "nanochat", **parts: Any) -> LifeView:
    decoder = ReferenceDecoder(random_model(257, arch=arch, **parts))
    return view_life(decoder, byte_tokenizer(), PROMPT, SAMPLING)


def temperatures() -> TemperaturesView:
    degrees = (0, 0.1, 0.5, 1, 1.5, 2)
    return view_temperatures(ReferenceDecoder(random_model(257)), byte_tokenizer(), PROMPT, SAMPLING, degrees)


SHOWN, COMPARED = life(), temperatures()


def hard(view: LifeView, token: bytes, context: bytes) -> LifeView:
    attended = [
        replace(head, attended=tuple(replace(at, token=token) for at in head.attended)) for head in view.heads
    ]
    picked = replace(view.choice, candidates=tuple(replace(c, token=token) for c in view.choice.candidates))
    return replace(
        view, token=token, context=context, heads=tuple(attended), choice=picked, merges=((token, token),)
    )


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("explain", [False, True])
def test_every_screen_keeps_its_shape(width: int, colour: bool, explain: bool) -> None:
    for arch in ("gpt2", "nanochat"):
        view = life(arch)
        for one in (view, hard(view, HARD, HARD * 9)):
            screen = render(render_life(one, width, explain=explain), width, colour=colour)
            plain = re.sub(r"\x1b\[[0-9;]*m", "", screen)
            lines = [line.rstrip() for line in plain.splitlines()]
            assert all(cell_len(line) <= width for line in lines)
            # Every stage stands on a line of its own, its numbers under each other.
            rows = [line for line in lines if re.match(r" *\d* (residual|attention|units) +\d", line)]
            assert len(rows) == 8 + (arch == "gpt2")
            assert all(re.fullmatch(r" *[\d.e+-]+", line[28:36]) for line in rows)
    listed = tuple(replace(c, token=HARD) for c in COMPARED.candidates)
    for shown in (COMPARED, replace(COMPARED, candidates=listed, context=HARD * 9)):
        screen = render(render_temperatures(shown, width, explain=explain), width, colour=colour)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", screen)
        assert all(cell_len(line) <= width for line in plain.splitlines())
        assert "▸ 100.0%" in plain
        assert not re.search(r"[.%]\d*…", plain)


@settings(max_examples=25)
@given(token=st.binary(max_size=12), context=st.one_of(st.binary(max_size=90), st.text().map(str.encode)))
def test_text_never_reaches_the_terminal_raw(token: bytes, context: bytes) -> None:
    one = replace(SHOWN, heads=SHOWN.heads[:1])
    other = replace(
        COMPARED, context=context, candidates=tuple(replace(c, token=token) for c in COMPARED.candidates)
    )
    for renderable in (
        render_life(hard(one, token, context), 60, explain=True),
        render_temperatures(other, 60, explain=True),
    ):
        screen = render(renderable, 60)
        assert screen.replace("\n", "").isprintable()
        assert all(cell_len(line) <= 60 for line in screen.splitlines())


def test_every_row_has_its_sentence() -> None:
    for arch in ("gpt2", "nanochat", "qwen3"):
        view = life(arch)
        bare = render(render_life(view, 100), 100)
        told = render(render_life(view, 100, explain=True), 100)
        rows = 3 + len(view.stages) + len(view.heads) + len(view.choice.candidates) + 1
        extra = [line for line in told.splitlines() if line not in bare.splitlines()]
        assert sum(line.rstrip().endswith(".") for line in extra) >= rows
        assert [line for line in told.splitlines() if line not in extra] == bare.splitlines()
    bare = render(render_temperatures(COMPARED, 100), 100)
    told = render(render_temperatures(COMPARED, 100, explain=True), 100)
    extra = [line for line in told.splitlines() if line not in bare.splitlines()]
    assert sum(line.endswith(".") for line in extra) == len(COMPARED.candidates) + 3


def test_stages_are_told_by_the_parts_that_a_model_has() -> None:
    told = {
        arch: " ".join(render(render_life(life(arch, **parts), 120, explain=True), 120).split())
        for arch, parts in (
            ("gpt2", {}),
            ("nanochat", {}),
            ("llama", {"kv_heads": 1}),
            ("qwen3", {}),
            ("smollm3", {"unrotated": (0,)}),
        )
    }
    for arch, sentences in {
        "gpt2": ("looks for.", "units after gelu_new; active", "head of values hands over"),
        "nanochat": ("looks for, rotated by position and brought to a fixed length.",),
        "llama": (
            "looks for, rotated by position.",
            "What each head of keys, which 2 heads share, can be found by, rotated by position.",
            "What each head of values, which 2 heads share, hands over",
            "A copy of the residual stream, brought to a fixed length, then a learned gain.",
            "units after silu of the gate, times what comes in; active",
            "by which each layer rotates queries and keys.",
        ),
        "qwen3": ("looks for, brought to a fixed length with a learned gain and rotated by position.",),
        "smollm3": (
            "looks for.",
            "looks for, rotated by position.",
            "rotates queries and keys, but for 1 of them.",
        ),
    }.items():
        for sentence in sentences:
            assert sentence in told[arch], (arch, sentence)


def test_columns_that_do_not_fit_go_into_further_tables() -> None:
    assert list(pack([7, 6, 7, 6], 30, 1)) == [range(4)]
    assert list(pack([7, 6, 7, 6], 29, 1)) == [range(3), range(3, 4)]
    assert list(pack([50], 10, 1)) == [range(1)]


def test_numbers_take_no_more_than_their_room() -> None:
    values = (0.0, 0.001, -0.004, 1.5, -99.994, 100.04, -999.94, 123456.0, -1e9)
    assert [number_of(value) for value in values] == [
        *("0.00", "1e-03", "-4e-03", "1.50", "-99.99", "100.0", "-999.9", "1e+05", "-1e+09")
    ]


def test_the_end_says_how_exact_the_stages_are() -> None:
    told = " ".join(render(render_life(replace(SHOWN, difference=3.8e-6), 100), 100).split())
    assert "Recomputed from these stages, no logit differs from the model's own by more than 3.8e-06." in told
    assert "how nearly it points where the stream before it did (cos), and where each head looks." in told
    assert "Of a head, query, key, value and output are lengths as well." in told


def test_tokens_are_quoted_in_the_sentences() -> None:
    told = " ".join(render(render_life(SHOWN, 100, explain=True), 100).split())
    looked = SHOWN.heads[0].attended[0]
    assert f"from {quoted(looked.token)} at position {looked.position}" in told
    told = " ".join(render(render_temperatures(COMPARED, 100, explain=True), 100).split())
    assert f"{quoted(COMPARED.candidates[0].token)}: 100.0% at 0," in told

"""How the views of texts and weights look: shapes, widths, text that tries to misbehave."""

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType

from mygpt_cli.checkpoints.checkpoint import load
from mygpt_cli.inspection.compare import compare
from mygpt_cli.inspection.copied import Copied, Passage
from mygpt_cli.inspection.surprisal import Surprisal, surprisal
from mygpt_cli.inspection.tokens import cut
from mygpt_cli.inspection.weights import Weights, weights_of
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.ui.compare import render_compare
from mygpt_cli.ui.copied import render_copied
from mygpt_cli.ui.export import Export, Shown, to_html, to_svg
from mygpt_cli.ui.rows import Column, Row, Rows, histogram
from mygpt_cli.ui.surprisal import Legend, colour_of, lines_of, render_surprisal, sign_of
from mygpt_cli.ui.text import one_line
from mygpt_cli.ui.tokens import render_tokens, show_tokens
from mygpt_cli.ui.weights import render_weights
from tests.helpers.screens import EVIL, check_harmless, render
from tests.helpers.standins import byte_tokenizer, random_checkpoint, random_model

BYTES = byte_tokenizer()
MODEL = random_model(257, context=8)
WIDTHS = (60, 80, 120)
COLOUR_LEGEND = "bits  under 1  under 4  under 8  more"
Part = Sequence[RenderableType]


def view_of(text: str) -> Surprisal:
    return surprisal(MODEL, BYTES, BYTES.encode_array(text))


def all_views(text: str) -> list[Callable[[int, bool], Part]]:
    """Return every view of a text of two bytes or more, from a width and whether to explain."""
    view = view_of(text)
    cuts = cut(BYTES, BYTES.encode_array(text), top=5)
    copied = Copied(len(text), 1, len(text), (Passage(0, len(text), text, 12345, 67),))
    return [
        lambda width, explain: render_surprisal(view, BYTES, width, top=9, explain=explain),
        lambda width, explain: render_tokens(cuts, width, explain=explain),
        lambda width, explain: render_copied(copied, text, width, running=True, explain=explain),
        lambda width, explain: render_weights(weights_of(MODEL)[:3], width, explain=explain),
    ]


def test_surprisal_at_60_columns() -> None:
    view = Surprisal(
        ids=np.frombuffer(b"Hi you\n", np.uint8),
        nats=np.array([0.25, 1.5, 3.0, 7.0, 0.5, 0.125], np.float32),
        ranks=np.array([1, 2, 40, 200, 1, 1]),
        best=np.array([105, 97, 122, 97, 117, 10]),
        best_nats=np.full(6, 0.5, np.float32),
        bytes=6,
    )
    assert render(Group(*render_surprisal(view, BYTES, 60, top=2, explain=True)), 60) == (
        """\
Hi ·y•o◆u↵

rank  1  2 to 10 ·  11 to 100 •  beyond ◆

rank             tokens    share  bits each
────────────────────────────────────────────────────────────
first                 3    50.0%       0.42  ███████▌
    In 50.0% of the places, the token that came was the
    model's first choice.
2 to 10               1    16.7%       2.16  ██▌
    In 16.7% of the places, the token that came was the
    model's choice number 2 to 10.
11 to 100             1    16.7%       4.33  ██▌
    In 16.7% of the places, the token that came was the
    model's choice number 11 to 100.
beyond 100            1    16.7%      10.10  ██▌
    In 16.7% of the places, the token that came was below
    the model's first 100.

   line  worst places           bits    rank  expected
────────────────────────────────────────────────────────────
      1  Hi yo                 10.10     200  a 60.7%
    Here 'o' had a chance of one in 1,097; 'a' would have
    been the model's first choice.
      1  Hi y                   4.33      40  z 60.7%
    Here 'y' had a chance of one in 20; 'z' would have been
    the model's first choice.

2.9756 bits per byte and 2.0625 nats per token over 6
predicted tokens: the model is as unsure as if it chose each
token among 7.9 equally likely ones. In the text, the sign
of a rank stands after its token.
"""
    )


def test_weights_at_60_columns() -> None:
    tensor = Weights("head.weight", (5, 4), 12.345678, -0.00012345678, 1.5, -123456.0, 2.0, (1, 0, 200, 50))
    assert render(Group(*render_weights([tensor], 60)), 60) == (
        """\
     norm       mean     lowest    highest  histogram
────────────────────────────────────────────────────────────
head.weight  5 × 4
    12.35  -0.000123  -1.23e+05          2  ▁▁▁▁    ████▂▂▂▂

Each histogram counts the tensor's numbers from its lowest
to its highest. Long tails, and a norm far above its
neighbours', are worth a look; --compare with an earlier
checkpoint shows what training moved.
"""
    )
    told = " ".join(render(Group(*render_weights([tensor], 100, explain=True)), 100).split())
    assert "Its numbers average -0.000123, most within 1.5 of that; its length is 12.35 (the root of" in told


@settings(max_examples=30)
@given(st.text(min_size=2, max_size=30), st.sampled_from(WIDTHS), st.booleans())
def test_views_keep_their_shape_and_act_on_nothing(text: str, width: int, explain: bool) -> None:
    text = text.encode("utf-8", "replace").decode()
    for view in all_views(text):
        shown = render(Group(*view(width, explain)), width)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
        assert all(cell_len(line) <= width for line in shown.split("\n"))


@pytest.mark.parametrize("width", WIDTHS)
def test_colour_changes_nothing_but_colour(width: int) -> None:
    for view in all_views("Hello 漢字\n\x1b[31mé"):
        plain, coloured = (render(Group(*view(width, True)), width, colour=on) for on in (False, True))
        stripped = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
        lines = [line.rstrip() for line in stripped.split("\n")]
        assert [line for line in lines if line != COLOUR_LEGEND] == plain.split("\n")


def test_explaining_adds_a_sentence_to_every_row() -> None:
    rows = [Row(["a", "b"], "Says a."), Row(["c", "d"], "Says b.")]
    columns = [Column("x", 5), Column("y", 0, right=True)]
    assert "Says" not in render(Rows(columns, rows, 20))
    assert render(Rows(columns, rows, 20, explain=True), 20).splitlines()[2:] == [
        "a                  b",
        "    Says a.",
        "c                  d",
        "    Says b.",
    ]


def test_pages_and_pictures_are_harmless() -> None:
    for view in all_views(EVIL):
        parts = view(80, True)
        page = to_html("view", parts, 80).replace("src=x", "")
        check_harmless(page)
        check_harmless(to_svg("view", parts, 80))


def test_a_comparison_keeps_its_shape(tmp_path: Path) -> None:
    first = load(random_checkpoint(tmp_path / "a\u202eb"))
    other = load(random_checkpoint(tmp_path / "other", arch="nanochat"))
    ids = first.tokenizer.encode_array("The cat\n漢字")
    texts = [surprisal(side.model, side.tokenizer, ids) for side in (first, other)]
    view = compare(first, other, prompt=tuple(ids.tolist()), texts=(texts[0], texts[1]))
    for width in WIDTHS:
        parts = render_compare(view, first.tokenizer, width, top=4, explain=True)
        shown = render(Group(*parts), width)
        assert all(cell_len(line) <= width for line in shown.split("\n"))
        assert "<U+202E>" in shown.replace("\n", "")
        assert "positions: not in both" in shown
    told = " ".join(shown.split())
    assert "The mean loss over this text, in the unit of training." in told
    assert "As hard as guessing among this many equally likely tokens." in told


def test_bands() -> None:
    assert [colour_of(bits) for bits in (0.0, 0.99, 1.0, 7.9, 8.0, 1e9)] == [
        *("green", "green", "", "magenta", "red", "red")
    ]
    assert [sign_of(rank) for rank in (1, 2, 10, 11, 100, 101)] == ["", "·", "·", "•", "•", "◆"]
    assert [sign_of(rank, ascii_only=True) for rank in (1, 2, 11, 101)] == ["", ".", "+", "#"]


def test_histograms_never_hide_what_is_there() -> None:
    assert histogram([0, 1, 10**6, 500_000])(4, False) == " ▁█▄"
    assert histogram([0, 1, 10**6, 500_000])(8, True) == "  ..%%**".replace("%%", "##").replace("**", "==")


def test_lines_of_places() -> None:
    ids = BYTES.encode_array("ab\ncd\n\ne")
    view = surprisal(MODEL, BYTES, ids)
    assert lines_of(view, BYTES, [7, 1, 3, 2, 6]) == [4, 1, 2, 1, 3]


def test_json_of_tokens(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tokenizer: Tokenizer = BYTES
    page = tmp_path / "a.html"
    show_tokens(cut(tokenizer, tokenizer.encode_array("é"), top=1), Shown(json=True, to=Export(html=page)))
    record = json.loads(capsys.readouterr().out)
    assert record["tokens"] == [
        {"id": 0xC3, "text": "\N{REPLACEMENT CHARACTER}", "bytes": "c3"},
        {"id": 0xA9, "text": "\N{REPLACEMENT CHARACTER}", "bytes": "a9"},
    ]
    assert (record["characters"], record["bytes"], record["tokens_per_character"]) == (1, 2, 2.0)
    assert record["longest"][0]["count"] == 0
    assert one_line("<C3>") in check_harmless(page.read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("colours", "named"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_named_only_where_there_are_any(
    monkeypatch: pytest.MonkeyPatch, colours: dict[str, str], named: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm"} | colours).items():
        monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    with console.capture() as capture:
        console.print(Legend())
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capture.get())
    assert (COLOUR_LEGEND in shown) is named
    assert "rank  1  2 to 10 ·  11 to 100 •  beyond ◆" in shown


def test_what_a_model_wrote_stands_after_its_prompt() -> None:
    copied = Copied(9, 4, 4, (Passage(2, 6, "a.txt", 0, 1),))
    shown = render(Group(*render_copied(copied, " and more", 60, running=True, prompt="Tell\n\x1b me")), 60)
    assert shown.startswith("Tell↵\n␛ me a⟦nd m⟧ore\n")
    assert "The prompt is not counted." in " ".join(shown.split())
    coloured = render(Group(*render_copied(copied, " more", 60, running=True, prompt="Me")), 60, colour=True)
    assert coloured.startswith("\x1b[2mMe\x1b[0m")
    assert "The prompt" not in render(Group(*render_copied(copied, " and more", 60, running=True)), 60)

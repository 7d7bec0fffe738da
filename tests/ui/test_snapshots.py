"""Every view as it is expected to look, at three widths, with colour and without.

The expectations are in `tests/ui/expected/`; `python -m tests.ui.test_snapshots` writes them anew.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Group, RenderableType

from mygpt_cli.config.sampling import Sampling
from mygpt_cli.inspection.compare import Comparison, Shift, Side
from mygpt_cli.inspection.copied import Copied, Passage
from mygpt_cli.inspection.kept import Moment, PartMoved
from mygpt_cli.inspection.life import Attended, Head, LifeView, Next, Stage
from mygpt_cli.inspection.steps import Spread
from mygpt_cli.inspection.surprisal import Surprisal
from mygpt_cli.inspection.temperatures import OtherProbabilities, Probabilities, TemperaturesView
from mygpt_cli.inspection.tokens import cut
from mygpt_cli.inspection.weights import Moved, Weights
from mygpt_cli.ui.attention import render_attention
from mygpt_cli.ui.chart import Chart
from mygpt_cli.ui.compare import render_compare
from mygpt_cli.ui.copied import render_copied
from mygpt_cli.ui.kept import render_kept
from mygpt_cli.ui.lens import render_lens
from mygpt_cli.ui.life import render_life
from mygpt_cli.ui.steps import render_footer, render_settings, render_step
from mygpt_cli.ui.summary import render_summary
from mygpt_cli.ui.surprisal import render_surprisal
from mygpt_cli.ui.temperatures import render_temperatures
from mygpt_cli.ui.tokens import render_tokens
from mygpt_cli.ui.weights import render_weights
from tests.helpers.screens import SAMPLING, SUMMARY, VIEW, VIEWS, render, view_of
from tests.helpers.standins import byte_tokenizer

EXPECTED = Path(__file__).parent / "expected"
BYTES = byte_tokenizer()
WIDE = "漢字\u200b".encode()  # of two cells each, and one that is invisible
TEXT = Surprisal(
    ids=np.frombuffer("Hé\ny\u202e漢".encode(), np.uint8),
    nats=np.array([0.25, 1.5, 3.0, 7.0, 0.5, 0.125, 2.0, 4.0, 0.25, 0.5], np.float32)[:10],
    ranks=np.array([1, 2, 40, 200, 1, 1, 9, 80, 1, 2]),
    best=np.array([105, 97, 122, 97, 117, 10, 32, 0xE6, 98, 99]),
    best_nats=np.full(10, 0.5, np.float32),
    bytes=10,
)
MOVED = (
    Moved("embedding", (9, 4), 10.0, 11.0, 2.5, 0.9712),
    Moved("blocks.0.mlp.up.weight", (16, 4), 4.0, 4.0, 0.0, 1.0),
)
SHIFTS = (Shift(7, b" sat", 0.5, 0.25), Shift(9, WIDE, 0.125, 0.625))


def stage(number: int, name: str, layer: int | None = None, cosine: float | None = 0.75) -> Stage:
    values = (0.5, -1.25, 123.456, -0.001, 2.0, 3.0, 4.0, 5.0)
    return Stage(number, layer, name, (16,), 12.345, cosine, values, 7 if name == "units" else None)


def life() -> LifeView:
    inner = [(6, "norm"), (6, "query"), (7, "attention"), (7, "residual"), (8, "units"), (8, "residual")]
    attended = (Attended(2, 5, WIDE, 0.75), Attended(1, 6, b"\n", 0.125))
    return LifeView(
        arch="nanochat",
        positions="rotary",
        norm="rms",
        norm_gain=False,
        qk_norm="after",
        qk_norm_gain=False,
        unrotated=(),
        sharing=1,
        activation="relu2",
        gated=False,
        softcap=15.0,
        position=3,
        length=4,
        context=b"The " + WIDE,
        token=WIDE,
        id=40,
        vocab_size=512,
        tokenizer="bpe",
        merges=((WIDE[:3], WIDE[3:]),),
        merged=True,
        layers=12,
        stages=(
            stage(4, "embedding", cosine=None),
            stage(5, "norm"),
            stage(5, "rotary cosines", cosine=None),
            *(stage(number, name, 2) for number, name in inner),
            *(stage(*one) for one in ((9, "final norm"), (10, "logits"), (10, "soft cap"), (11, "softmax"))),
        ),
        heads=(Head(2, 1, 6.93, 6.93, 5.0, 2.5, attended, 0.125),),
        difference=3.8e-6,
        choice=VIEW,
        follows=Next(9, WIDE, 17, 0.0123),
    )


def temperatures() -> TemperaturesView:
    return TemperaturesView(
        context=b"Once upon",
        temperatures=(0.1, 0.5, 1.0, 1.5, 2.0),
        candidates=(
            Probabilities(41, b" a", 4.0, (1.0, 0.8, 0.5, 0.3, 0.2), (False,) * 5),
            Probabilities(42, WIDE, 3.0, (0.0, 0.2, 0.25, 0.25, 0.2), (True, False, False, False, False)),
        ),
        others=OtherProbabilities(510, (0, 3, 99, 510, 510), (0.0, 0.0001, 0.25, 0.45, 0.6)),
        spreads=tuple(Spread(entropy, 2**entropy) for entropy in (0.0, 0.75, 2.0, 4.0, 8.0)),
        draw=0.625,
        picked=(41, 41, 42, 42, 41),
    )


def comparison() -> Comparison:
    other = replace(TEXT, nats=TEXT.nats[::-1].copy())
    sides = (Side("checkpoints/letters-001/best", 500), Side("checkpoints/\u202eletters-002/last", None))
    return Comparison(sides, True, (TEXT, other), SHIFTS, 0.625, MOVED, ("head.weight",))


def moments(asked: str) -> list[Moment]:
    """Return the history of a run after a prompt, over a text, or of its weights alone."""
    rows = []
    for step, distance in ((500, 0.5), (1000, 0.125), (1200, 0.0)):
        after = asked == "prompt"
        shift = replace(SHIFTS[0], other_probability=0.5 - distance)
        row = Moment(
            folder=f"checkpoints/letters-001/kept/{step:06d}",
            step=step,
            same_tokens=True,
            bits_per_byte=2.0 + distance if asked == "text" else None,
            nats_per_token=3.0 + distance if asked == "text" else None,
            answer=shift if after else None,
            says=(SHIFTS[1] if distance > 0.2 else shift) if after else None,
            divergence=distance if after else None,
            parts=(PartMoved("token embedding", 10 * distance, distance), PartMoved("norms", 0.0, None)),
        )
        rows.append(row)
    return rows


def views() -> dict[str, Callable[[int], RenderableType]]:
    """Return every view by name, each a function of the width."""
    cuts = cut(BYTES, BYTES.encode_array("Hi 漢\u202e!"), top=3)
    copied = Copied(30, 8, 12, (Passage(4, 12, "story.txt", 1234, 56), Passage(14, 18, "漢.txt", 7, 1)))
    text = "All new, but for this \u202e\n and that."
    tensor = Weights("head.weight", (5, 4), 12.345678, -0.00012345678, 1.5, -123456.0, 2.0, (1, 0, 200, 50))
    attention = view_of(b"The", b" cat", b"\n", WIDE, b" sat")
    everything = Sampling(temperature=0.5, top_k=2, top_p=0.9, ban=("a\x1b",), seed=7)
    return {
        "steps": lambda w: Group(render_settings(SAMPLING), render_step(VIEW, w), render_footer(VIEW)),
        "steps-explained": lambda w: Group(
            render_settings(everything), render_step(VIEW, w, explain=True), render_footer(VIEW)
        ),
        "summary": lambda w: render_summary(SUMMARY, w),
        "temperatures": lambda w: render_temperatures(temperatures(), w),
        "life": lambda w: render_life(life(), w),
        "life-explained": lambda w: render_life(life(), w, explain=True),
        "lens": lambda w: Group(*render_lens(VIEWS, w)),
        "attention": lambda w: Group(*render_attention(attention, w)),
        "text": lambda w: Group(*render_surprisal(TEXT, BYTES, w, top=3)),
        "copied": lambda w: Group(*render_copied(copied, text, w, running=True, explain=True)),
        "tokens": lambda w: Group(*render_tokens(cuts, w)),
        "compare": lambda w: Group(*render_compare(comparison(), BYTES, w, top=3)),
        "kept-prompt": lambda w: Group(*render_kept(moments("prompt"), w)),
        "kept-text": lambda w: Group(*render_kept(moments("text"), w, explain=True)),
        "kept-weights": lambda w: Group(*render_kept(moments("weights"), w)),
        "weights": lambda w: Group(*render_weights([tensor], w)),
    }


def screens(name: str) -> str:
    """Return a view at all widths, with colour (its codes as `^[`) and without."""
    shown = ""
    for width in (60, 80, 120):
        for colour in (False, True):
            screen = render(views()[name](width), width, colour=colour).replace("\x1b", "^[")
            shown += f"=== {width} columns, {'colour' if colour else 'plain'}\n{screen}"
    return shown


@pytest.mark.parametrize("name", views())
def test_a_view_looks_as_expected(name: str) -> None:
    assert screens(name) == (EXPECTED / f"{name}.txt").read_text(encoding="utf-8")


def test_the_curve_of_what_was_kept_ends_where_its_table_does() -> None:
    for asked, end in (("prompt", 0.5), ("text", 2.0), ("weights", 0.0)):
        rows = [*moments(asked)[:2], replace(moments(asked)[2], folder="checkpoints/letters-001/last")]
        chart = next(part for part in render_kept(rows, 80) if isinstance(part, Chart))
        assert chart.x_high == 1200
        assert chart.panels[0].lines[0].points[-1] == (1200, end)
        # The steps of another run are no continuation.
        rows[-1] = replace(rows[-1], folder="checkpoints/other-001/last")
        chart = next(part for part in render_kept(rows, 80) if isinstance(part, Chart))
        assert chart.x_high == 1000


if __name__ == "__main__":
    for name in views():
        (EXPECTED / f"{name}.txt").write_text(screens(name), encoding="utf-8", newline="\n")

"""The page of temperatures: what it computes from recorded logits is what the view recorded."""

from pathlib import Path
from typing import Any

import pytest

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.stream import read_prompt
from mygpt_cli.inspection import choices
from mygpt_cli.inspection.choices import ChoiceRecorder
from mygpt_cli.inspection.steps import view_steps
from mygpt_cli.inspection.temperatures import TemperaturesView, view_temperatures
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.pages.temperatures import temperatures_page
from mygpt_cli.ui.temperatures import show_temperatures
from mygpt_cli.ui.text import visible
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import byte_tokenizer, random_model

TOKENIZER = byte_tokenizer()
DEGREES = (0.0, 0.33, 1.0, 3.0)


def made(folder: Path, **given: Any) -> tuple[str, TemperaturesView]:
    sampling = Sampling(seed=8, max_new_tokens=1, **given)
    decoder, start = ReferenceDecoder(random_model(257)), read_prompt(TOKENIZER, "<b>Once", 24)
    view = view_temperatures(decoder, TOKENIZER, start, sampling, DEGREES, top=5)
    recorder = ChoiceRecorder(sampling, 257, DEGREES)
    list(view_steps(decoder, TOKENIZER, start, sampling, watch=recorder.record))
    how = Shown(json=True, to=Export(html=folder / "temperatures.html"), model=EVIL)
    show_temperatures(view, sampling, how, temperatures_page(view, recorder, TOKENIZER))
    return (folder / "temperatures.html").read_text(encoding="utf-8"), view


@pytest.mark.parametrize(
    ("best", "given"),
    [
        (400, {}),
        (400, {"top_k": 7}),
        (400, {"top_p": 0.6, "min_p": 0.02}),
        (400, {"typical_p": 0.5, "repetition_penalty": 1.4}),
        (90, {}),
        (90, {"top_k": 20}),
    ],
)
def test_every_temperature_is_what_the_view_recorded(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: int, given: dict[str, Any]
) -> None:
    if best < 257:
        monkeypatch.setattr(choices, "BEST", best)
        monkeypatch.setattr(choices, "FULL", best)
    text, view = made(tmp_path, **given)
    page = opened(text)
    found = page.evaluate(
        "data.listed.map((degree) => { const found = results[degrees.indexOf(degree)];"
        "return { picked: found.picked, kept: found.final.kept, rest: found.final.rest }; })"
    )
    data = check_harmless(text).data["steps"][0]
    for at, result in enumerate(found):
        assert result["picked"] == view.picked[at]
        assert sum(result["kept"]) + result["rest"] == pytest.approx(1)
        for candidate in view.candidates:
            if data["ids"] and candidate.id not in data["ids"]:
                continue  # picked by a high temperature
            place = data["ids"].index(candidate.id) if data["ids"] else candidate.id
            assert result["kept"][place] == pytest.approx(candidate.probabilities[at], rel=1e-5, abs=1e-9)
            assert (result["kept"][place] == 0) == candidate.cut[at]


def test_the_temperature_can_be_moved(opened: Any, tmp_path: Path) -> None:
    text, view = made(tmp_path)
    page = opened(text)
    for at, degree in enumerate(DEGREES):
        page.evaluate(
            "(degree) => { const input = control.querySelector('input');"
            "input.value = degrees.indexOf(degree); input.dispatchEvent(new Event('input')); }",
            degree,
        )
        told = page.inner_text(".said")
        picked = next(one for one in view.candidates if one.id == view.picked[at])
        assert f"'{visible(picked.token)}'" in told
        assert f"among {view.spreads[at].choices:,.1f}".removesuffix(".0") in told
        assert page.locator("tr.picked td:nth-child(4)").inner_text() == str(picked.id)
    control = page.locator("input[type=range]")
    control.focus()
    page.keyboard.press("Home")
    assert "the best token is taken" in page.inner_text(".said")
    box = page.locator("div.curve").bounding_box()
    page.locator("div.curve").click(position={"x": 58 + (box["width"] - 70) / 3, "y": 100})
    assert "At temperature 1," in page.inner_text(".said")
    assert page.locator(".plot path.curve").count() >= 8


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(made(tmp_path)[0], width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width

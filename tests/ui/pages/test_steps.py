"""The page of steps: its filters are those of generation, and other settings pick what generation picks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.config.sampling import DRAWING, Sampling
from mygpt_cli.generation import chain
from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.generation.sampler import choose
from mygpt_cli.generation.stream import read_prompt
from mygpt_cli.inspection import choices
from mygpt_cli.inspection.choices import ChoiceRecorder
from mygpt_cli.inspection.steps import view_steps
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.steps import show_steps
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import byte_tokenizer, learned, random_model

TOKENIZERS = {257: byte_tokenizer(), 420: learned(420)}


def made(folder: Path, size: int = 257, prompt: str = "Once", **given: Any) -> str:
    """Return the page of a small model's steps."""
    sampling = Sampling(**({"seed": 8, "max_new_tokens": 5} | given))
    recorder = ChoiceRecorder(sampling, size)
    decoder, tokenizer = ReferenceDecoder(random_model(size)), TOKENIZERS[size]
    views = view_steps(
        decoder, tokenizer, read_prompt(tokenizer, prompt, 24), sampling, watch=recorder.record
    )
    path = folder / "steps.html"
    show_steps(views, sampling, Shown(json=True, to=Export(html=path), model=EVIL), (recorder, tokenizer))
    return path.read_text(encoding="utf-8")


def picked(size: int, **given: Any) -> int:
    """Return what generation picks in its first step."""
    sampling = Sampling(**({"seed": 8} | given | {"max_new_tokens": 1}))
    start = read_prompt(TOKENIZERS[size], "Once", 24)
    (view,) = view_steps(ReferenceDecoder(random_model(size)), TOKENIZERS[size], start, sampling)
    return view.picked.id


def set_slider(page: Any, name: str, value: float) -> None:
    page.evaluate(
        "([name, value]) => { const input = controls[name].querySelector('input');"
        "input.value = SLIDERS[name].indexOf(value); input.dispatchEvent(new Event('input')); }",
        [name, value],
    )


def test_the_page_holds_what_was_recorded(tmp_path: Path) -> None:
    page = check_harmless(made(tmp_path, prompt=EVIL, repetition_penalty=1.3))
    assert len(page.data["steps"]) == 5
    assert page.data["early"] == ["repetition-penalty"]
    assert page.data["order"] == list(DRAWING)
    assert "\x1b" not in page.data["prompt"]
    assert "␛[31m" in page.data["prompt"]


FILTERS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.2, 0.8, 1.0, 1.7]),
        "top_k": st.sampled_from([0, 1, 2, 5, 30]),
        "top_p": st.sampled_from([0.05, 0.31, 0.5, 0.9, 0.97, 1.0]),
        "min_p": st.sampled_from([0.0, 0.02, 0.1, 0.5]),
        "typical_p": st.sampled_from([0.3, 0.9, 1.0, 1.0]),
    }
)


def test_filters_of_the_page_are_those_of_generation(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path))
    in_page = """([logits, order, settings, drawn]) => {
        const from = { logits: logits.map((logit) => logit === null ? CUT : logit), degree: 1, rest: null };
        const stages = runFilters(from, order, settings);
        const end = shares(stages.length ? stages[stages.length - 1].state : from).kept;
        const kept = (logits) => logits.map((logit) => logit === CUT ? null : logit);
        return [stages.map((stage) => [stage.name, kept(stage.state.logits)]),
                end, fallsOn(intervals(end), drawn)];
    }"""

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 2**32), st.integers(1, 60), FILTERS, st.permutations(DRAWING), st.booleans())
    def check(seed: int, size: int, given: dict[str, Any], order: list[str], ties: bool) -> None:
        rng = np.random.default_rng(seed)
        values = rng.normal(0, 3, size).astype(np.float32)
        values = np.round(values) if ties else values
        drawn = float(rng.random())
        sampling = Sampling(seed=1, filters=",".join(order), **given)
        logits = torch.from_numpy(values).double()[None]
        filters = chain.chain(sampling, TOKENIZERS[257])
        stages = chain.run(filters, logits, torch.zeros(1, 0, dtype=torch.long), 0, watch=True).stages
        names = {name: getattr(sampling, name.replace("-", "_")) for name in DRAWING}
        theirs, end, place = page.evaluate(in_page, [logits[0].tolist(), order, names, drawn])
        assert [name for name, _ in theirs] == [name for name, _ in stages]
        for (_, mine), (_, other) in zip(stages, theirs, strict=True):
            kept = mine[0].isfinite()
            assert [logit is not None for logit in other] == kept.tolist()
            assert [logit for logit in other if logit is not None] == pytest.approx(mine[0][kept].tolist())
        final = logits_to_probs(stages[-1][1] if stages else logits)
        assert end == pytest.approx(final[0].tolist(), abs=1e-12)
        assert place == int(choose(final, torch.tensor([drawn], dtype=torch.float64)).ids[0])

    check()


@pytest.mark.parametrize("size", [257, 420])
def test_other_settings_pick_what_generation_picks(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(choices, "FULL", 300)
    monkeypatch.setattr(choices, "BEST", 100)
    page = opened(made(tmp_path, size, temperature=0.9))
    changes: list[dict[str, Any]] = [{"temperature": degree} for degree in (0.0, 0.3, 1.0, 1.55, 2.0)]
    changes += [{"top-k": 1}, {"top-k": 40}, {"top-p": 0.3}, {"top-p": 0.07}, {"min-p": 0.4}]
    changes += [{"top-k": 40, "temperature": 0.5, "top-p": 0.8}]
    seen = set()
    for change in changes:
        page.get_by_role("button", name="As recorded").click()
        for name, value in change.items():
            set_slider(page, name, value)
        fields = {name.replace("-", "_"): value for name, value in change.items()}
        token = picked(size, **({"temperature": 0.9} | fields))
        assert page.evaluate("choose(data.steps[0], settings).picked") == token, change
        seen.add(token)
    assert len(seen) > 3


def test_a_large_vocabulary_says_what_it_cannot_tell(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "FULL", 300)
    monkeypatch.setattr(choices, "BEST", 100)
    page = opened(made(tmp_path, 420, temperature=2.0))
    assert "the best and the one picked" in page.inner_text("body")
    assert page.locator(".draws").count() == 1
    set_slider(page, "top-p", 0.99)
    assert "it cannot tell which one the draw picks" in page.inner_text(".said")
    set_slider(page, "top-k", 70)
    assert "falls on" in page.inner_text(".said")


def test_steps_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path, temperature=0.9))
    assert page.locator("h1").inner_text() == "Steps of generation"
    assert "<script>alert(1)</script>" in page.inner_text(".model")
    page.locator("[data-step='2']").click()
    assert "Step 3 of 5" in page.inner_text("main")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert "Step 2 of 5" in page.inner_text("main")
    assert page.locator("[aria-pressed='true']").get_attribute("data-step") == "1"
    row = page.locator("tr.picked")
    assert row.locator("td").first.inner_text() == "▸"
    assert row.locator("td").nth(5).inner_text().endswith("%")
    set_slider(page, "temperature", 0)
    said = page.inner_text(".said")
    assert "The best token is taken" in said
    assert "The later steps were recorded with that choice" in said or "the pick is the same" in said
    page.get_by_role("button", name="Show more candidates").click()
    assert page.locator("tbody tr").count() > 90


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_a_page_fits_its_window(opened: Any, tmp_path: Path, width: int, scheme: str) -> None:
    page = opened(made(tmp_path, prompt="x" * 500), width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_a_script_the_screen_is_there(browser: Any, tmp_path: Path) -> None:
    made(tmp_path)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "steps.html").as_uri())
    assert "step 1" in page.inner_text("pre.screen")
    context.close()

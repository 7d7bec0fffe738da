"""The page of kept checkpoints: a slider over them, with the numbers of each."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mygpt_cli.inspection.compare import Shift
from mygpt_cli.inspection.kept import Moment, PartMoved
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.kept import show_kept
from tests.helpers.screens import EVIL, check_harmless


def moment(step: int, share: float, **changes: object) -> Moment:
    answer = Shift(7, EVIL.encode(), 0.75, share)
    says = answer if share > 0.5 else Shift(9, b" dog", 0.1, 0.5)
    folder = f"checkpoints/a-001/kept/{step:09}"
    parts = PartMoved("attention", 4.0 - step / 100, 0.5 - step / 1000), PartMoved(EVIL, 0.0, None)
    made = Moment(folder, step, True, 3.0 - step / 200, 2.0, answer, says, 0.4 - step / 1000, parts)
    return replace(made, **changes)  # type: ignore[arg-type]


MOMENTS = [*(moment(step, step / 400) for step in (100, 200, 300)), moment(400, 0.75)]
MOMENTS[-1] = replace(MOMENTS[-1], folder="checkpoints/a-001/best", divergence=0.0)


def made(folder: Path, moments: list[Moment]) -> str:
    show_kept(moments, Shown(json=True, to=Export(html=folder / "kept.html"), model=EVIL))
    return (folder / "kept.html").read_text(encoding="utf-8")


def test_the_page_holds_every_moment(tmp_path: Path) -> None:
    data = check_harmless(made(tmp_path, MOMENTS)).data
    assert [found["step"] for found in data["moments"]] == [100, 200, 300, 400]
    assert [found["answer"]["share"] for found in data["moments"]] == [0.25, 0.5, 0.75, 0.75]
    assert data["own"]
    other = [*MOMENTS[:-1], replace(MOMENTS[-1], folder="checkpoints/b-001/best")]
    assert not check_harmless(made(tmp_path, other)).data["own"]


def test_moments_by_slider_mouse_and_table(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path, MOMENTS))
    told = page.inner_text(".panel")  # of the first one, which A has something to be compared with
    assert "It says '␣dog' with 50.0%" in told
    assert "has 25.0%; its predictions diverge from those of A by 0.30 bits." in told
    assert "2.5000 bits per byte" in told
    assert "40.0%" in page.locator("table").last.inner_text()
    page.locator("input[type=range]").focus()
    page.keyboard.press("End")
    assert "A, step 400" in page.inner_text(".panel")
    page.locator("[data-moment='2']").click()
    assert "step 300" in page.inner_text(".panel")
    assert page.locator("input[type=range]").input_value() == "2"
    box = page.locator("div.curve").bounding_box()
    page.locator("div.curve").click(position={"x": 58 + (box["width"] - 70) / 2, "y": 90})
    assert "step 200" in page.inner_text(".panel")
    assert page.locator(".plot circle").count() == 4
    assert "<script>alert(1)</script>" in page.inner_text("main")


@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize("kind", ["losses", "weights", "other tokens", "no steps"])
def test_without_a_prompt_and_at_any_width(opened: Any, tmp_path: Path, kind: str, width: int) -> None:
    none: dict[str, Any] = {"answer": None, "says": None, "divergence": None}
    none |= {"bits_per_byte": None, "nats_per_token": None} if kind != "losses" else {}
    none |= {"same_tokens": False, "parts": ()} if kind == "other tokens" else {}
    none |= {"step": None} if kind == "no steps" else {}
    page = opened(made(tmp_path, [replace(one, **none) for one in MOMENTS]), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg.plot").count() == (kind in ("losses", "weights"))

"""The page of tensors: what its maps and histograms say is what is in the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mygpt_cli.inspection.weights import weights_of
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.pages import weights
from mygpt_cli.ui.weights import show_weights
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import random_model

MODEL = random_model(257)
NAMES = [name for name, _ in MODEL.named_parameters()]


def made(folder: Path) -> str:
    tensors = weights_of(MODEL)
    how = Shown(json=True, to=Export(html=folder / "weights.html"), model=EVIL)
    show_weights(tensors, how, weights.weights_page(MODEL, tensors))
    return (folder / "weights.html").read_text(encoding="utf-8")


def test_the_page_holds_every_tensor(tmp_path: Path) -> None:
    data = check_harmless(made(tmp_path)).data["tensors"]
    assert [tensor["name"] for tensor in data] == NAMES
    for tensor, (_, parameter) in zip(data, MODEL.named_parameters(), strict=True):
        assert sum(tensor["histogram"]) == parameter.numel()
        if parameter.dim() == 1:
            assert tensor["values"] == pytest.approx(parameter.tolist(), rel=1e-2)
        elif tensor["block"] == [1, 1]:
            assert torch.tensor(tensor["means"]).numpy() == pytest.approx(parameter.numpy(), rel=1e-2)


def test_a_large_model_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MOST_CELLS", 700)
    monkeypatch.setattr(weights, "VALUES", 9)
    data = check_harmless(made(tmp_path)).data["tensors"]
    cells = [sum(map(len, tensor["means"])) for tensor in data if "means" in tensor]
    assert max(cells) <= 25
    assert max(len(tensor["values"]) for tensor in data if "values" in tensor) == 9


def test_tensors_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path))
    rows = dict(MODEL.named_parameters())
    at = NAMES.index("blocks.1.mlp.up.weight")
    page.locator(f"[data-tensor='{at}']").click()
    assert page.locator("h2").last.inner_text() == NAMES[at]
    page.locator(".mapped").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    block = rows[NAMES[at]][4:6, 1]  # 64 rows are 32 blocks of two
    mean = f"{float(block.mean()):#.3g}".replace("-", "−")
    assert f"Rows 4 to 5, column 1: mean {mean}" in page.inner_text(".panel")
    page.locator("select").select_option("spreads")
    page.locator(".mapped rect").first.hover(force=True)
    spread = float(rows[NAMES[at]][:2, 0].square().mean().sqrt())
    assert f"root mean square {spread:#.3g}" in page.inner_text(".panel")
    assert page.locator(".map .less").count() == 0

    page.locator(f"[data-tensor='{at}']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    vector = rows[NAMES[at + 1]]
    assert page.locator("h2").last.inner_text() == NAMES[at + 1]
    assert vector.dim() == 1
    page.locator(".bars").first.focus()
    page.keyboard.press("End")
    shown = page.locator(".barred").first.inner_text()
    assert f"value {len(vector) - 1}: " in shown
    counts, _ = np.histogram(vector.double().numpy(), weights.BINS)
    page.locator(".bars").last.focus()
    page.keyboard.press("Home")
    assert f": {counts[0]} numbers" in page.locator(".barred").last.inner_text()


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(made(tmp_path), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width

"""The page of a text: what stands behind each token is what was measured, and passages lie where they lie."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.inspection.copied import Copied, Passage
from mygpt_cli.inspection.surprisal import surprisal
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.pages import surprisal as pages
from mygpt_cli.ui.pages.surprisal import surprisal_page
from mygpt_cli.ui.surprisal import lines_of, show_surprisal
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import learned, random_model

TOKENIZER = learned(420)
MODEL = random_model(420)
TEXT = "Hello there, it's a test;\nnaïve café 中文 😀 and the end.\n" + EVIL


def copied_from(text: str, *spans: tuple[int, int]) -> Copied:
    passages = tuple(Passage(start, stop, f"{EVIL}.txt", 9, 3) for start, stop in spans)
    return Copied(len(text), 40, 12, passages)


def made(folder: Path, text: str, copied: Copied | str) -> str:
    view = surprisal(MODEL, TOKENIZER, TOKENIZER.encode_array(text))
    how = Shown(json=True, to=Export(html=folder / "text.html"), model="run x")
    show_surprisal(view, TOKENIZER, copied, text, how)
    return (folder / "text.html").read_text(encoding="utf-8")


def test_the_page_holds_what_was_measured(tmp_path: Path) -> None:
    view = surprisal(MODEL, TOKENIZER, TOKENIZER.encode_array(TEXT))
    data = check_harmless(made(tmp_path, TEXT, "it is gone")).data
    assert data["ids"] == view.ids.tolist()
    assert data["ranks"] == view.ranks.tolist()
    assert data["bits"] == pytest.approx(view.bits.tolist(), abs=1e-3)
    assert data["copied"] == "it is gone"
    assert sum(row["count"] for row in data["by_rank"]) == len(view.nats)
    assert [row["place"] for row in data["worst"]] == view.worst(pages.WORST)
    starts = [start for start, _ in data["curve"]]
    sizes = np.diff([*starts, len(view.ids)])
    total = sum(size * mean for size, (_, mean) in zip(sizes, data["curve"], strict=True))
    assert total == pytest.approx(float(view.bits.sum()), abs=0.1)


@settings(max_examples=40)
@given(st.text(min_size=4, max_size=60), st.data())
def test_the_tokens_of_a_passage_are_those_that_write_it(text: str, data: st.DataObject) -> None:
    ids = TOKENIZER.encode_array(text)
    if len(ids) < 2:
        return
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start + 1, len(text)))
    view = surprisal(MODEL, TOKENIZER, ids)
    lines = lines_of(view, TOKENIZER, view.worst(pages.WORST))
    page = surprisal_page(view, TOKENIZER, copied_from(text, (start, stop)), text, lines)
    first, last = page["copied"]["passages"][0]["tokens"]
    whole, passage = text.encode(), text[start:stop].encode()
    begins = len(TOKENIZER.decode_bytes(ids[:first].tolist()))
    ends = len(TOKENIZER.decode_bytes(ids[:last].tolist()))
    place = len(text[:start].encode())
    assert begins <= place < len(TOKENIZER.decode_bytes(ids[: first + 1].tolist()))
    assert len(TOKENIZER.decode_bytes(ids[: last - 1].tolist())) < place + len(passage) <= ends
    assert passage in whole[begins:ends]


def test_a_long_text_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_TOKENS", 50)
    monkeypatch.setattr(pages, "MOST_POINTS", 7)
    data = check_harmless(made(tmp_path, TEXT * 9, "gone")).data
    assert (len(data["ids"]), len(data["bits"]), len(data["curve"])) == (50, 49, 7)
    assert data["count"] > 200


def test_tokens_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path, TEXT, copied_from(TEXT, (6, 18))))
    view = surprisal(MODEL, TOKENIZER, TOKENIZER.encode_array(TEXT))
    page.locator("[data-at='3']").hover()
    told = page.inner_text(".panel")
    assert f"{view.bits[2]:.2f} bits" in told
    assert f"rank {view.ranks[2]:,}" in told
    assert "Expected was" in told or "It is what the model expected" in told
    page.locator("[data-at='3']").focus()
    page.keyboard.press("ArrowRight")
    assert ", number 5:" in page.inner_text(".panel")
    assert page.locator("[data-at='4']").evaluate("node => node === document.activeElement")
    shown = page.evaluate(
        "spans.filter((span) => span.classList.contains('copied')).map((span) => span.textContent)"
    )
    assert "there, it's" in "".join(shown)
    assert page.locator("sup.place").inner_text() == "[1]"
    assert "<script>alert(1)</script>" in page.inner_text(".surprisal")
    assert "<script>alert(1)</script>" in page.locator("table").last.inner_text()


def test_the_threshold_says_how_many_tokens_are_above_it(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path, TEXT, "gone"))
    bits = surprisal(MODEL, TOKENIZER, TOKENIZER.encode_array(TEXT)).bits.round(3)
    for place in (0, 12, 40):
        page.evaluate(
            "(place) => { const input = limit.querySelector('input'); input.value = place;"
            "input.dispatchEvent(new Event('input')); }",
            place,
        )
        assert page.locator(".t.over").count() == int((bits >= place / 2).sum())
    page.locator("td button").first.click()
    worst = surprisal(MODEL, TOKENIZER, TOKENIZER.encode_array(TEXT)).worst(1)[0]
    assert page.evaluate("document.activeElement.dataset.at") == str(worst)


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(made(tmp_path, TEXT + "x" * 300, copied_from(TEXT, (0, 30))), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg.plot path.curve").count() == 1

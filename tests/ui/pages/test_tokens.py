"""The page of a cut text: each token with its bytes, its merges, and all places where it stands."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mygpt_cli.inspection.tokens import cut
from mygpt_cli.ui.export import Export, Shown
from mygpt_cli.ui.pages import tokens
from mygpt_cli.ui.tokens import show_tokens
from tests.helpers.screens import EVIL, check_harmless
from tests.helpers.standins import learned

TOKENIZER = learned()
TEXT = f"Hello there, it's a test there 😀\n{EVIL}".replace("\x00", "").replace("\ufffe", "")


def made(folder: Path, text: str = TEXT) -> str:
    ids = TOKENIZER.encode_array(text) if text else np.empty(0, np.int64)
    found = cut(TOKENIZER, ids, top=6)
    how = Shown(json=True, to=Export(html=folder / "tokens.html"), model=EVIL)
    show_tokens(found, how, tokens.tokens_page(found, TOKENIZER))
    return (folder / "tokens.html").read_text(encoding="utf-8")


def test_the_page_holds_every_token(tmp_path: Path) -> None:
    data = check_harmless(made(tmp_path)).data
    ids = TOKENIZER.encode_array(TEXT).tolist()
    assert data["ids"] == ids
    assert data["total"] == len(ids)
    joined = b"".join(bytes.fromhex(data["tokens"][str(token)]["hex"]) for token in ids)
    assert joined == TEXT.encode()
    for token in ids:
        found = data["tokens"][str(token)]
        assert found["count"] == ids.count(token)
        if found["merges"]:
            assert "".join(found["merges"][-1]) == found["shown"]
    assert any(found["characters"] is None for found in data["tokens"].values())  # a part of the picture


def test_a_long_text_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 10)
    data = check_harmless(made(tmp_path)).data
    assert (len(data["ids"]), data["total"]) == (10, len(TOKENIZER.encode_array(TEXT)))


def test_a_list_that_is_cut_says_so(opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "The first" not in opened(made(tmp_path)).inner_text("main")
    monkeypatch.setattr(tokens, "MOST_ENTRIES", 4)
    shown = opened(made(tmp_path)).inner_text("main")
    assert shown.count("The first 4 of 6 tokens.") == 2


def test_tokens_by_mouse_and_by_keyboard(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path))
    ids = TOKENIZER.encode_array(TEXT).tolist()
    page.locator("[data-at='1']").hover()
    assert f"number 2: id {ids[1]}," in page.inner_text(".panel")
    repeated = next(at for at, token in enumerate(ids) if ids.count(token) > 1)
    page.locator(f"[data-at='{repeated}']").click()
    assert page.locator(".t.same").count() == ids.count(ids[repeated])
    page.keyboard.press("Enter")
    assert page.locator(".t.same").count() == 0
    page.keyboard.press("ArrowRight")
    assert f"number {repeated + 2}:" in page.inner_text(".panel")
    whole = "".join(page.locator(".t").all_text_contents())
    assert "<script>alert(1)</script>" in whole

    page.locator("select").select_option(index=1)
    assert page.locator(".t.heat").count() == len(ids)
    page.locator("input[type=checkbox]").check()
    assert "␣a␣test" in "".join(page.locator(".t").all_text_contents())
    page.get_by_role("button", name="Find").first.click()
    assert page.locator(".t.same").count() == max(map(ids.count, ids))


def test_a_vocabulary_without_a_text(opened: Any, tmp_path: Path) -> None:
    page = opened(made(tmp_path, ""))
    assert "the longest show what its text said most often" in page.inner_text("main")
    assert page.locator("tbody tr").count() == 6


@pytest.mark.parametrize("width", [360, 1600])
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    page = opened(made(tmp_path, TEXT + "x" * 300), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width

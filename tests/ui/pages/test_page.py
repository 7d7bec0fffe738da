"""The frame of all pages: data that stays data, a script that its policy names, and nothing else."""

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from mygpt_cli.ui.export import to_html
from mygpt_cli.ui.pages.page import Exploration, to_json
from tests.helpers.screens import EVIL, check_harmless

ENDINGS = ("</script><script>alert(1)</script>", "<!--<script>", "]]>", "\u2028\u2029", "&lt;", "\x00\ud800")


@given(st.text())
def test_data_says_what_it_said_and_cannot_end_its_element(text: str) -> None:
    written = to_json({"text": text, text: [1.5, None, True]})
    assert json.loads(written) == {"text": text, text: [1.5, None, True]}
    assert not set(written) & set("<>&\u2028\u2029")
    assert written.isascii()


def test_numbers_that_are_none_are_null() -> None:
    assert to_json([float("-inf"), {"x": (float("nan"), 0.5)}]) == '[null,{"x":[null,0.5]}]'


def test_a_page_names_its_script_and_says_which_model_it_shows() -> None:
    text = to_html("steps", [Text(EVIL)], 80, f"run {EVIL}", Exploration(("filters.js",), {"text": EVIL}))
    page = check_harmless(text)
    assert page.data == {"text": EVIL}
    assert [kind for kind, _ in page.elements] == ["style", "application/json", "script"]
    assert "run <script>alert(1)</script>" in page.text
    assert text.index("<noscript>") < text.index('<pre class="screen">') < text.index("</noscript>")


def test_the_parts_of_pages_are_small_and_use_text_only() -> None:
    parts = [
        part for part in files("mygpt_cli.ui.pages").iterdir() if part.name.endswith((".js", ".css", ".html"))
    ]
    assert sum(len(part.read_bytes()) for part in parts) < 200_000
    for part in parts:
        code = part.read_text(encoding="utf-8")
        assert "\r" not in code
        for active in (
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "Function(",
            "fetch(",
        ):
            assert active not in code, part.name


@pytest.mark.parametrize("payload", [EVIL, *ENDINGS])
def test_hostile_data_stays_text_in_a_browser(opened: Any, payload: str) -> None:
    script = Exploration(("lens.js",), {"positions": [], "model": payload})
    page = opened(to_html(payload, [Text(payload)], 80, payload, script))
    assert page.evaluate("data.model") == payload
    assert page.locator("script").count() == 2
    assert page.locator("img").count() == 0

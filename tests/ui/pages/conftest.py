"""A browser for pages, where there is one and a driver for it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# A page may draw as soon as it knows its width, in its first frame: the second one comes after that.
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Return Chromium, or skip where it or its driver is missing."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="playwright, which drives a browser, is missing"
    )
    with driver.sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        path = own if own.exists() else next(filter(None, map(shutil.which, NAMES)), None)
        if path is None:
            pytest.skip("there is no Chromium")
        launched = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page from its HTML, and fails on errors and on any request of it."""
    faults: list[str] = []
    pages: list[Any] = []

    def open_page(text: str, width: int = 1200, **options: Any) -> Any:
        path = tmp_path / f"page{len(pages)}.html"
        path.write_text(text, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)
        pages.append(page)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on(
            "request",
            lambda request: None if request.url == path.as_uri() else faults.append(request.url),
        )
        page.goto(path.as_uri())
        page.evaluate(TWO_FRAMES)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert faults == []

"""The guided tour as data for a page: its screens, with their pictures as text."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType


def tour_page(screens: Iterable[tuple[RenderableType, Mapping[str, Any]]], width: int) -> dict[str, Any]:
    """Return what a page needs to show screens, each with its picture, of `width` cells, and its words."""
    return {"pages": [{**words, "picture": _as_text(picture, width)} for picture, words in screens]}


def _as_text(picture: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(picture)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())

"""What a text shares with the training text, on the screen."""

from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from mygpt_cli.ui.columns import WIDEST, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.pages.copied import copied_page
from mygpt_cli.ui.records import as_json
from mygpt_cli.ui.rows import Column, Row, Rows, closing
from mygpt_cli.ui.text import head, one_line, tail
from mygpt_cli.ui.units import count, count_of

if TYPE_CHECKING:
    from mygpt_cli.inspection.copied import Copied

MOST_SHOWN = 20


def show_copied(copied: "Copied", text: str, how: Shown, prompt: str = "") -> None:
    """Write which passages of a text, perhaps written after a prompt, were copied."""
    with how.screen("copied passages") as screen:
        screen.record({"prompt": prompt, "text": text} | copied_record(copied, text))
        shown = render_copied(copied, text, screen.width, running=True, explain=how.explain, prompt=prompt)
        screen.show(*shown)
        if screen.page:
            screen.explore(copied_page(copied, text, prompt), "copied.js")


def copied_record(copied: "Copied", text: str) -> dict[str, Any]:
    """Return what was copied for JSON, each passage with its text."""
    record = as_json(copied) | {"share": copied.share}
    for passage in record["passages"]:
        passage["text"] = text[passage["start"] : passage["stop"]]
    return record


def render_copied(
    copied: "Copied",
    text: str,
    width: int,
    *,
    running: bool = False,
    explain: bool = False,
    prompt: str = "",
) -> list[RenderableType]:
    """Render the passages that were copied, the longest first, and their share, for 60 cells or more.

    `running` shows the text itself first, after its prompt, with the passages marked.
    """
    width = min(width, WIDEST)
    parts: list[RenderableType] = []
    if running:
        parts += [_marked(copied, text, prompt), Text()]
    if copied.passages:
        place = (width - 20) * 2 // 5
        columns = [
            Column("length", 8, right=True),
            Column("copied passage", 0),
            Column("file:line, from", place),
        ]
        longest = sorted(copied.passages, key=lambda passage: (passage.start - passage.stop, passage.start))
        rows = []
        for passage in longest[:MOST_SHOWN]:
            said = one_line(text[passage.start : min(passage.stop, passage.start + width)])
            where = f":{passage.line}, {passage.offset + 1}"
            file = tail(one_line(passage.file), place - len(where))
            size = passage.stop - passage.start
            sentence = (
                f"Characters {count(passage.start + 1)} to {count(passage.stop)} of this text stand"
                f" word for word in {one_line(passage.file)}, line {count(passage.line)}, from character"
                f" {count(passage.offset + 1)} on."
            )
            rows.append(Row([count(size), head(said, width), f"{file}{where}"], sentence))
        if (more := len(longest) - MOST_SHOWN) > 0:
            rows.append(Row([Text(f"… {count_of(more, 'shorter passage')} more", style="dim")]))
        parts += [Rows(columns, rows, width, explain), Text()]
    words = (
        f"{percent(copied.share)} of the text is copied and {percent(1 - copied.share)} is new: copied is a"
        f" stretch of {copied.least} characters or more that stands word for word in the training text."
    )
    if copied.characters < copied.least:
        words += " This text is shorter than that."
    if prompt:
        words += " The prompt is not counted."
    return [*parts, closing(words)]


def _marked(copied: "Copied", text: str, prompt: str) -> Text:
    """Write the text after its prompt, with copied stretches in brackets and in colour."""
    shown = Text(overflow="fold").append(_lines(prompt), style="dim")
    reached = 0
    for start, stop in _stretches(copied):
        shown.append(_lines(text[reached:start]))
        shown.append("⟦", style="bold red").append(_lines(text[start:stop]), style="red")
        shown.append("⟧", style="bold red")
        reached = stop
    return shown.append(_lines(text[reached:]))


def _stretches(copied: "Copied") -> list[tuple[int, int]]:
    """Join passages that touch."""
    joined: list[tuple[int, int]] = []
    for passage in copied.passages:
        if joined and passage.start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], passage.stop)
        else:
            joined.append((passage.start, passage.stop))
    return joined


def _lines(text: str) -> str:
    return one_line(text).replace("↵", "↵\n")

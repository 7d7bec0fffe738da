"""How a text is cut into tokens, on the screen."""

from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from mygpt_cli.ui.columns import WIDEST, percent
from mygpt_cli.ui.export import Shown
from mygpt_cli.ui.records import as_json, token_fields
from mygpt_cli.ui.rows import Column, Row, Rows, bar, closing
from mygpt_cli.ui.text import quoted, visible
from mygpt_cli.ui.units import count, count_of

if TYPE_CHECKING:
    from mygpt_cli.inspection.tokens import Cut, Entry

MOST_SHOWN = 1000  # tokens in the running text
MOST_ROWS = 50


def show_tokens(cut: "Cut", how: Shown, page: dict[str, Any] | None = None) -> None:
    """Write how a text is cut into tokens; `page` is what a page shows."""
    with how.screen("tokens") as screen:
        record = as_json(cut)
        pairs = zip(record.pop("ids"), cut.tokens, strict=True)
        record["tokens"] = [{"id": token, **token_fields(data)} for token, data in pairs]
        screen.record(record | {"bytes": cut.size, "tokens_per_character": cut.tokens_per_character})
        screen.show(*render_tokens(cut, screen.width, explain=how.explain))
        if page:
            screen.explore(page, "tokens.js")


def render_tokens(cut: "Cut", width: int, *, explain: bool = False) -> list[RenderableType]:
    """Render the cut text, its tokens one by one, and the entries that stand out, for 60 cells or more."""
    width = min(width, WIDEST)
    parts: list[RenderableType] = []
    if cut.ids:
        parts += [_running(cut), Text(), _facts(cut), Text(), _table(cut, width, explain), Text()]
        parts += _entries("most frequent in this text", cut.frequent, len(cut.ids), width, explain)
    if cut.longest:
        parts += _entries("longest of the vocabulary", cut.longest, len(cut.ids), width, explain)
    return [*parts, closing(_words(cut))]


def _running(cut: "Cut") -> Text:
    """Write the tokens end to end: bars part them, and every other one is in colour."""
    line = Text(overflow="fold")
    for place, token in enumerate(cut.tokens[:MOST_SHOWN]):
        line.append("│" if place else "", style="dim")
        line.append(visible(token), style="cyan" if place % 2 else "")
    if more := len(cut.tokens) - MOST_SHOWN:
        line.append(f" … {count(more)} more" if more > 0 else "", style="dim")
    return line


def _facts(cut: "Cut") -> Text:
    here = len(cut.ids) - cut.prefix
    return Text(
        f"{count_of(cut.characters, 'character')} in {count_of(cut.size, 'byte')} are"
        f" {count_of(here, 'token')}: {cut.tokens_per_character:.3f} tokens per character,"
        f" {cut.size / max(1, here):.2f} bytes per token{_prefix(cut)}"
    )


def _prefix(cut: "Cut") -> str:
    names = ", ".join(map(quoted, cut.tokens[: cut.prefix]))
    return f"; the tokenizer has put {names} before them" if names else ""


def _table(cut: "Cut", width: int, explain: bool) -> Rows:
    digits = max(2, len(str(min(MOST_ROWS, len(cut.ids)))))
    columns = [
        Column("", digits, right=True),
        Column("token", 20),
        Column("id", 7, right=True),
        Column("bytes", 0),
    ]
    rows = []
    for place, (token, data) in enumerate(zip(cut.ids, cut.tokens, strict=True), 1):
        if place > MOST_ROWS:
            rows.append(Row([Text(f"… {count(len(cut.ids) - MOST_ROWS)} more", style="dim")]))
            break
        rows.append(
            Row([str(place), visible(data), str(token), data.hex(" ")], _sentence(place, token, data))
        )
    return Rows(columns, rows, width, explain)


def _sentence(place: int, token: int, data: bytes) -> str:
    try:
        holds = count_of(len(data.decode()), "character")
    except UnicodeDecodeError:
        holds = "part of a character"
    return f"Token {place} is entry {token} of the vocabulary: {count_of(len(data), 'byte')}, {holds}."


def _entries(
    title: str, entries: tuple["Entry", ...], total: int, width: int, explain: bool
) -> list[RenderableType]:
    columns = [Column(title, 30), Column("id", 7, right=True), Column("here", 7, right=True), Column("", 0)]
    rows = []
    for entry in entries:
        share = entry.count / total if total else 0.0
        size = count_of(len(entry.token), "byte")
        sentence = f"An entry of {size}, and {percent(share)} of the tokens of this text."
        rows.append(Row([visible(entry.token), str(entry.id), count(entry.count), bar(share)], sentence))
    return [Rows(columns, rows, width, explain), Text()]


def _words(cut: "Cut") -> str:
    kind = {"char": "one token for each character", "bpe": "byte pairs"}.get(cut.kind, "byte pairs")
    vocabulary = (
        f"The vocabulary has {count_of(cut.vocab_size, 'entry').replace('entrys', 'entries')} ({kind})"
    )
    if not cut.ids:
        return f"{vocabulary}; the longest show what its text said most often."
    return (
        f"{vocabulary}, of which this text uses {count(cut.distinct)}. The fewer tokens per character, the"
        " better it fits the text, and the more of it the model sees at once."
    )

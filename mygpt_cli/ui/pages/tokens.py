"""How a text is cut into tokens as data for a page: each token with its bytes and how it came about."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mygpt_cli.inspection.life import merges_of
from mygpt_cli.ui.pages.steps import broken
from mygpt_cli.ui.text import visible

if TYPE_CHECKING:
    from mygpt_cli.inspection.tokens import Cut, Entry
    from mygpt_cli.tokens.tokenizer import Tokenizer

MOST_TOKENS = 20_000
LONGEST_BYTES = 64  # of a token
MOST_ENTRIES = 300  # of each list


def tokens_page(cut: "Cut", tokenizer: "Tokenizer") -> dict[str, Any]:
    """Return what a page needs to show each token of a text, up to MOST_TOKENS of them."""
    counts = Counter(cut.ids)
    ids = cut.ids[:MOST_TOKENS]
    shown = dict(zip(ids, cut.tokens, strict=False))
    shown |= {entry.id: entry.token for entry in (*cut.longest, *cut.frequent)}
    return {
        "ids": ids,
        "total": len(cut.ids),
        "prefix": cut.prefix,
        "characters": cut.characters,
        "bytes": cut.size,
        "kind": cut.kind,
        "vocab_size": cut.vocab_size,
        "distinct": cut.distinct,
        "tokens": {
            token: _token(data, counts[token], tokenizer.ranks) for token, data in sorted(shown.items())
        },
        "frequent": _entries(cut.frequent),
        "longest": _entries(cut.longest),
        "listed": {"frequent": len(cut.frequent), "longest": len(cut.longest)},
    }


def _token(data: bytes, count: int, ranks: Mapping[bytes, int]) -> dict[str, Any]:
    merges = merges_of(data, ranks) if ranks and 1 < len(data) <= LONGEST_BYTES else []
    whole = bool(merges) and b"".join(merges[-1]) == data
    return {
        "text": broken(data),
        "shown": visible(data),
        "size": len(data),
        "hex": data[:LONGEST_BYTES].hex(" ").upper() + (" …" if len(data) > LONGEST_BYTES else ""),
        "characters": _characters(data),
        "count": count,
        "merges": [[visible(left), visible(right)] for left, right in merges] if whole else [],
    }


def _characters(data: bytes) -> int | None:
    """Return how many characters the bytes are, None where they end within one."""
    try:
        return len(data.decode())
    except UnicodeDecodeError:
        return None


def _entries(entries: tuple["Entry", ...]) -> list[int]:
    return [entry.id for entry in entries[:MOST_ENTRIES]]

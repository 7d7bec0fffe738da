"""Ordinary tokens that were added to a tokenizer: they are cut out of a text before anything else.

So do Hugging Face's tokenizers: https://huggingface.co/docs/tokenizers/api/added-tokens.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Added:
    """A token that was added; `late` ones are looked for in what all others leave."""

    id: int
    late: bool


class AddedTokens:
    """Looks for added tokens: the leftmost, and of several that begin there the longest."""

    def __init__(self, tokens: Mapping[str, Added]) -> None:
        self._tokens = tokens
        self.ids = {text: added.id for text, added in tokens.items()}
        self.longest = max(map(len, tokens), default=0)

    @cached_property
    def _passes(self) -> list[re.Pattern[str]]:
        # A pattern takes a while for thousands of tokens, and many who open a checkpoint encode nothing.
        each = ([text for text, one in self._tokens.items() if one.late is late] for late in (False, True))
        return [_any_of(texts) for texts in each if texts]

    def split(self, text: str) -> Iterator[str]:
        """Yield the stretches of a text in order, each an added token or free of them."""
        return _split(text, self._passes)

    def whole(self, text: str, start: int, place: int) -> int:
        """Move a cut at `place`, in a text that is split from `start` on, out of the token that it is in."""
        if not self.ids:
            return place
        end = start
        for stretch in self.split(text[start : place + self.longest]):
            begin, end = end, end + len(stretch)
            if begin < place < end and stretch in self.ids:
                return begin if begin > start else end
        return place


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))


def _split(text: str, passes: list[re.Pattern[str]]) -> Iterator[str]:
    """Cut out of a text what the first pattern finds, and out of the rest what the others do."""
    if not passes or not text:
        yield from filter(None, [text])
        return
    first, *later = passes
    end = 0
    for match in first.finditer(text):
        yield from _split(text[end : match.start()], later)
        yield match[0]
        end = match.end()
    yield from _split(text[end:], later)

"""Prompt-lookup decoding: guess how a text goes on, and read the guess along with it in one step.

The guess is what followed the last matching tokens of the text (the idea of speculative decoding is from
Leviathan et al., 2023, arXiv:2211.17192). A decoder reads several tokens in little more time than
one, with the same bits. So the logits after those that turn out to be right are there already, the others are
forgotten, and the text is that of reading token by token.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mygpt_cli.backends.cpu.decoder import TOKENS
from mygpt_cli.generation.decoding import DecodingState

SHORTEST, LONGEST = 4, 64  # tokens of a passage
SIZES = (2 * TOKENS - 1, TOKENS - 1)  # of guesses: with the token before them, all share the decoder's loads


class SpeculativeState(DecodingState):
    """The state of one text, whose decoder reads ahead."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._text: list[int] = self.ids[0].tolist()
        self._ends: dict[tuple[int, ...], int] = {}  # where SHORTEST tokens were last, by their end
        self._indexed = 0
        self._needed = SHORTEST  # tokens of a passage, more of them where guesses fail
        # Guessed tokens, and after each the logits (1, V) and the best token.
        self._ahead: deque[tuple[int, Tensor, list[int]]] = deque()

    def append(self, ids: list[int]) -> None:
        """Go on with one more token."""
        super().append(ids)
        self._text += ids

    def _read(self) -> tuple[Tensor, list[int]]:
        if self._ahead:
            token, logits, best = self._ahead.popleft()
            if token == self._text[-1]:
                self.right += 1
                self._needed = max(self._needed - 1, SHORTEST)
                return logits, best
            self._needed = min(self._needed + len(self._ahead) + 1, LONGEST)
            self._ahead.clear()
        cache = self._cache
        read = self.length - 1 - self._starts[0]
        cache.lengths[0] = min(cache.lengths[0], read)
        guess = self._guess(cache.capacity - 1 - read)
        if not guess or not cache.lengths[0]:
            return super()._read()
        logits, best = self.decoder.decode([self._text[-1], *guess], cache)
        self.guessed += len(guess)
        each = [(logits[n : n + 1], best[n : n + 1]) for n in range(len(best))]
        self._ahead.extend((token, *after) for token, after in zip(guess, each[1:], strict=True))
        return each[0]

    def _guess(self, room: int) -> list[int]:
        """Return tokens that the text may go on with, at most as many as there is room for, or none."""
        text, earlier = self._text, None
        for end in range(self._indexed + 1, len(text) + 1):
            key = tuple(text[max(0, end - SHORTEST) : end])
            earlier, self._ends[key] = self._ends.get(key), end
        self._indexed = len(text)
        if earlier is None or (same := _common_end(text, earlier)) < self._needed:
            return []
        size = next((size for size in SIZES if size <= min(room, same)), 0)
        period = len(text) - earlier
        return [text[earlier + n % period] for n in range(size)]


def _common_end(text: Sequence[int], earlier: int) -> int:
    """Return how many tokens, up to LONGEST, are the same before `earlier` as before the end."""
    for count in range(min(earlier, LONGEST)):
        if text[earlier - 1 - count] != text[-1 - count]:
            return count
    return min(earlier, LONGEST)

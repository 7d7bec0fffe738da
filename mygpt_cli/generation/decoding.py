"""Growing texts as a model reads them: no token twice while they fit, and a rule for when they do not.

Shapes: B sequences of T tokens, V entries of the vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.backends.reference import with_best
from mygpt_cli.base.errors import MygptError
from mygpt_cli.model.gpt import GPT


def window_start(length: int, start: int, context: int, window: str) -> int:
    """Return from which token on a model sees a text of this length, given from where it did before.

    While the text fits the context, that stays. Then `exact` moves on to the last tokens that fit, for each
    token anew. `half` moves on to the last half of the context, which leaves room for as many tokens again:
    reading anew costs one more position for each token on average. As it begins a text, a prompt that is too
    long is seen from the last tokens on that fit. What the model sees, it sees as if the text began there.
    """
    if length - start <= context:
        return start
    return length - (context if window == "exact" else max(1, context // 2))


class DecodingState:
    """Texts that grow together, and the model's logits for what comes next.

    `ids` (B, T), T at least 1, are on the CPU; texts shorter than the longest have -1 in front. At most
    `room` more tokens will be read after them, and there will never be more texts than `most`, by default B.
    Each text is read alone, and all go on as one batch. Where tokens are `guessed`, some are `right`.
    """

    guessed = right = 0

    def __init__(
        self,
        decoder: Decoder,
        ids: Tensor,
        *,
        room: int,
        window: str,
        most: int | None = None,
    ) -> None:
        self.decoder, self.model = decoder, decoder.model
        context = self.model.config.context
        self.window = window
        self.length = ids.size(1)
        self._ids = ids
        self._new: list[list[int]] = []  # the last columns, not yet among them
        missing = (ids < 0).sum(dim=1).tolist()
        self._starts = [max(count, self.length - context) for count in missing]
        longest = self.length - min(self._starts)
        self._cache = self.model.new_cache(most or len(ids), min(context, longest + room))
        self._cache.select(range(len(ids)))
        self._logits: Tensor | None = None
        self._best: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def ids(self) -> Tensor:
        """All tokens so far (B, T), with -1 in front of the shorter texts."""
        if self._new:
            begin = self.length - len(self._new)
            if self.length > self._ids.size(1):
                room = self._ids.new_empty(len(self._ids), self.length)  # twice what is there, or more
                self._ids = torch.cat((self._ids, room), dim=1)
            self._ids[:, begin : self.length] = torch.tensor(self._new).T
            self._new = []
        return self._ids[:, : self.length]

    def append(self, ids: list[int]) -> None:
        """Go on with one more token for each text."""
        self._new.append(ids)
        self._latest = ids
        self.length += 1
        self._logits = None

    def select(self, rows: Sequence[int]) -> None:
        """Keep these texts, in this order; one that is named several times goes on several times."""
        rows = list(rows)
        self._ids = self.ids[rows]
        self._starts = [self._starts[row] for row in rows]
        self._cache.select(rows)
        if self._logits is None:
            self._latest = [self._latest[row] for row in rows]
        else:
            self._logits = self._logits[rows]
            self._best = [self._best[row] for row in rows]

    def read(self) -> tuple[Tensor, list[int]]:
        """Return the logits (B, V) of the next token, float32 on the CPU, and the best token of each text.

        Of several best tokens it is the one with the lowest id. Raises MygptError when the logits are not
        finite.
        """
        if self._logits is None:
            self._logits, self._best = self._read()
            if min(self._best) < 0:
                raise self._fault(self._best.index(-1))
        return self._logits, self._best

    def logits(self) -> Tensor:
        """Return the logits in double precision: a choice can be redone by hand, and small shares add up."""
        return self.read()[0].double()

    def _read(self) -> tuple[Tensor, list[int]]:
        """Decode the latest token of each text, or prefill all that the model sees of it.

        Returns the logits and the best tokens, -1 where the logits are not finite.
        """
        cache = self._cache
        for row, start in enumerate(self._starts):
            self._starts[row] = window_start(self.length, start, self.model.config.context, self.window)
            if self._starts[row] != start:
                cache.lengths[row] = 0
        unread = [row for row, length in enumerate(cache.lengths) if not length]
        if not unread:
            return self.decoder.decode(self._latest, cache)
        if len(unread) < len(cache.lengths):  # what this makes of those unread is overwritten
            logits = self.decoder.decode(self._latest, cache)[0].clone()
        else:
            logits = torch.empty(len(unread), self.model.config.vocab_size)
        for row in unread:
            alone = cache.part(slice(row, row + 1))
            alone.length = 0
            logits[row] = self.decoder.prefill(self._seen(row), alone)[0]
            cache.lengths[row] = alone.length
        return with_best(logits)

    def _seen(self, row: int) -> Tensor:
        """What the model sees of a text, (1, T)."""
        return self.ids[row : row + 1, self._starts[row] :].to(self._cache.keys.device)

    def _fault(self, row: int) -> MygptError:
        number = int((self.ids[row] >= 0).sum()) + 1
        return MygptError(
            f"the model's logits for token {number} are not finite numbers:"
            f" they go wrong in {unsound_part(self.model, self._seen(row))}",
            "the weights are damaged, or training diverged: use an earlier checkpoint",
        )


@torch.inference_mode()
def unsound_part(model: GPT, ids: Tensor) -> str:
    """Return which part of a model is the first to give numbers that go wrong for ids (B, T).

    They are not finite, or so large that the norm which reads them overflows: in which of these two ways a
    damaged layer shows is a matter of rounding, and so of the processor.
    """
    if any(parameter.is_meta for parameter in model.parameters()):  # the decoder alone has the weights
        return "a layer that cannot be told"
    sound: list[bool] = []

    def look(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sound.extend(bool(x.square().sum(dim=-1).isfinite().all()) for x in (inputs[0], output))

    hooks = [block.register_forward_hook(look) for block in model.blocks]
    model.hidden(ids)
    for hook in hooks:
        hook.remove()
    if not sound[0]:
        return "the embedding"
    broken = [number for number, good in enumerate(sound[1::2], 1) if not good]
    return f"layer {broken[0]} of {len(model.blocks)}" if broken else "the head"

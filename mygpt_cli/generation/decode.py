"""Growing texts as a model reads them: no token twice while they fit, and a rule for when they do not.

Shapes: B sequences of T tokens, V entries of the vocabulary.
"""

import math

import torch
from torch import Tensor, nn

from mygpt_cli.errors import MygptError
from mygpt_cli.model.gpt import GPT
from mygpt_cli.model.kv_cache import KVCache


@torch.inference_mode()
def prefill(model: GPT, ids: Tensor, cache: KVCache | None = None) -> Tensor:
    """Read token ids (B, T) into an empty cache, if there is one; return the next token's logits (B, V)."""
    return model.unembed(model.hidden(ids, cache=cache)[:, -1])


@torch.inference_mode()
def decode_one_token(model: GPT, ids: Tensor, cache: KVCache) -> Tensor:
    """Read one more token (B,) for each sequence in the cache; return the next token's logits (B, V)."""
    if model.decoder is not None:
        return model.decoder.step(ids, cache)
    return model.unembed(model.hidden(ids[:, None], cache=cache)[:, -1])


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


class Reader:
    """Texts of equal length, and the model's logits for what comes next.

    `ids` (B, T), T at least 1, are on the CPU; at most `room` more tokens will be read after them.
    """

    def __init__(self, model: GPT, ids: Tensor, *, room: int, window: str, known: int | None = None) -> None:
        context = model.config.context
        self.model = model
        self.window = window
        self.known = known
        self.length = ids.size(1)
        self._ids = ids
        self._start = max(0, self.length - context)
        self._cache = model.new_cache(len(ids), min(context, self.length - self._start + room))
        self._logits: Tensor | None = None

    @property
    def ids(self) -> Tensor:
        """All tokens so far (B, T)."""
        return self._ids[:, : self.length]

    def append(self, ids: Tensor) -> None:
        """Go on with one more token (B,) for each text."""
        if self.length == self._ids.size(1):
            self._ids = torch.cat((self._ids, torch.empty_like(self._ids)), dim=1)  # twice the room
        self._ids[:, self.length] = ids
        self.length += 1
        self._logits = None

    def select(self, rows: Tensor) -> None:
        """Keep these texts (R,), in this order; one that is named several times goes on several times."""
        self._ids = self._ids[rows]
        self._cache.select(rows.to(self._cache.keys.device))
        if self._logits is not None:
            self._logits = self._logits[rows]

    def logits(self) -> Tensor:
        """Return the logits (B, V) of the next token, float64 on the CPU, without padding of the vocabulary.

        Raises MygptError when they are not finite.
        """
        if self._logits is None:
            # In double precision a choice can be redone by hand, and small shares add up.
            self._logits = self._read()[:, : self.known].cpu().double()
            if not math.isfinite(self._logits.sum().item()):  # one look at each number, and no copy
                raise self._fault()
        return self._logits

    def _read(self) -> Tensor:
        start = window_start(self.length, self._start, self.model.config.context, self.window)
        if start != self._start:
            self._start, self._cache.length = start, 0
        unread = self.ids[:, start + self._cache.length :].to(self._cache.keys.device)
        if self._cache.length:
            return decode_one_token(self.model, unread[:, 0], self._cache)
        return prefill(self.model, unread, self._cache)

    def _fault(self) -> MygptError:
        seen = self.ids[:, self._start :].to(self._cache.keys.device)
        return MygptError(
            f"the model's logits for token {self.length + 1} are not finite numbers:"
            f" they go wrong in {unsound_part(self.model, seen)}",
            "the checkpoint's weights are damaged, or its training diverged: take an earlier one",
        )


@torch.inference_mode()
def unsound_part(model: GPT, ids: Tensor) -> str:
    """Return which part of a model is the first to give numbers that are not finite for ids (B, T)."""
    sound: list[bool] = []

    def look(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sound.extend(bool(x.isfinite().all()) for x in (inputs[0], output))

    hooks = [block.register_forward_hook(look) for block in model.blocks]
    model.hidden(ids)
    for hook in hooks:
        hook.remove()
    if not sound[0]:
        return "the embedding"
    broken = [number for number, good in enumerate(sound[1::2], 1) if not good]
    return f"layer {broken[0]} of {len(model.blocks)}" if broken else "the head"

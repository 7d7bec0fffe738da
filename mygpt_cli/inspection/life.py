"""The life of a token: every stage from its text to the model's prediction of the next, run one by one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from mygpt_cli.errors import UsageError
from mygpt_cli.generation.decode import prefill
from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.generation.settings import Sampling
from mygpt_cli.generation.stream import Prompt
from mygpt_cli.inspection.steps import StepView, view_steps
from mygpt_cli.model.gpt import GPT, Block, activate, attention_weights
from mygpt_cli.tokenizer import Tokenizer
from mygpt_cli.tokenizer_json import BytePairVocabulary

SHOWN = 8  # first values of each stage


@dataclass(frozen=True)
class Stage:
    """The numbers of a token at one stage: their shape, Euclidean norm and first few values.

    `number` counts the stages from 1 to 12, of which 6 to 8 occur in each `layer` (from 1). `cosine` is that
    of the angle to the residual stream before, where there is one of the same shape. `active` counts the
    feed-forward units above 0.
    """

    number: int
    layer: int | None
    name: str
    shape: tuple[int, ...]
    norm: float
    cosine: float | None
    values: tuple[float, ...]
    active: int | None = None


@dataclass(frozen=True)
class Attended:
    """A token that a head looks at: its position from 1 and its weight."""

    position: int
    id: int
    token: bytes
    weight: float


@dataclass(frozen=True)
class Head:
    """A head of attention (layer and head from 1) at the token: norms, and what it takes from where.

    `attended` are the tokens of largest weight, and `rest` the weight of all others: the sum is 1. `output`
    is the norm of the values it gathered.
    """

    layer: int
    head: int
    query: float
    key: float
    value: float
    output: float
    attended: tuple[Attended, ...]
    rest: float


@dataclass(frozen=True)
class Next:
    """The token that the text goes on with: its rank from 1 and its probability, by the model."""

    id: int
    token: bytes
    rank: int
    probability: float


@dataclass(frozen=True)
class LifeView:
    """A token at a position (from 1) of `length`; the model sees `context`, which ends with it.

    `merges` are the byte pairs that made it, in order, and whether they `merged` to all of it: a tokenizer
    may also look it up whole. `difference` is the largest between the logits of the stages put together and
    those of the model's own forward pass. `choice` is what generation makes of them. `follows` is None at
    the end of the text.
    """

    arch: str
    activation: str
    softcap: float
    position: int
    length: int
    context: bytes
    token: bytes
    id: int
    vocab_size: int
    tokenizer: str
    merges: tuple[tuple[bytes, bytes], ...]
    merged: bool
    stages: tuple[Stage, ...]
    heads: tuple[Head, ...]
    difference: float
    choice: StepView
    follows: Next | None


def view_life(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: Prompt,
    sampling: Sampling,
    *,
    position: int | None = None,
    top: int = 5,
) -> LifeView:
    """Follow the token at a position of the prompt (from 1, by default its last) through the model.

    UsageError when there is no such position.
    """
    length = len(prompt.ids)
    position = length if position is None else position
    if not 1 <= position <= length:
        raise UsageError(f"there is no position {position}", f"the prompt has positions 1 to {length:,}")
    before = prompt.ids[:position]
    ended = Prompt(tokenizer.decode_bytes(before).decode("utf-8", "replace"), before)
    (choice,) = view_steps(model, tokenizer, ended, replace(sampling, max_new_tokens=1), top=top)
    tracer = Tracer(model, tokenizer, before, top)
    logits = tracer.run()
    own = prefill(model, torch.tensor([tracer.ids], device=logits.device))
    token, vocabulary = tokenizer.token_bytes(before[-1]), tokenizer.vocabulary
    merges = merges_of(token, vocabulary.ranks) if isinstance(vocabulary, BytePairVocabulary) else []
    return LifeView(
        arch=model.config.arch,
        activation=model.config.activation,
        softcap=model.config.softcap,
        position=position,
        length=length,
        context=tokenizer.decode_bytes(tracer.ids),
        token=token,
        id=before[-1],
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer.kind,
        merges=tuple(merges),
        merged=len(token) == 1 or bool(merges and b"".join(merges[-1]) == token),
        stages=tuple(tracer.stages),
        heads=tuple(tracer.heads),
        difference=float((logits - own).abs().max()),
        choice=choice,
        follows=_next(tokenizer, logits[0], prompt.ids[position:]),
    )


class Tracer:
    """Runs a model's own modules one after the other on token ids, and notes each stage of the last one."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, ids: tuple[int, ...], top: int) -> None:
        self.model, self.tokenizer, self.top = model, tokenizer, top
        self.ids = ids[-model.config.context :]
        self._start = len(ids) - len(self.ids)
        self.stages: list[Stage] = []
        self.heads: list[Head] = []
        self._layer: int | None = None

    @torch.inference_mode()
    def run(self) -> Tensor:
        """Return the logits (1, V) that the stages lead to."""
        model, known = self.model, self.tokenizer.vocab_size
        embedded = model.embed(torch.tensor([self.ids], device=model.embedding.device))  # (1, T, C)
        self._note(4, "embedding", embedded[0, -1])
        x, rotary = model.place(embedded)
        if model.positions is not None:
            self._note(5, "position", model.positions[len(self.ids) - 1], embedded[0, -1])
            self._note(5, "residual", x[0, -1], embedded[0, -1])
        else:
            self._note(5, "norm", x[0, -1], embedded[0, -1])
        if rotary is not None:
            self._note(5, "rotary cosines", rotary[0][-1])
        for number, block in enumerate(cast("Iterable[Block]", model.blocks), 1):
            self._layer = number
            x = self._feed_forward(block, self._attention(block, x, rotary))
        self._layer = None
        hidden = model.norm(x)[:, -1]  # (1, C)
        self._note(9, "final norm", hidden[0], x[0, -1])
        scores = model.score(hidden)
        logits = model.cap(scores)
        self._note(10, "logits", scores[0, :known])
        if model.config.softcap:
            self._note(10, "soft cap", logits[0, :known], scores[0, :known])
        self._note(11, "softmax", logits_to_probs(logits[0, :known].double()))
        return logits

    def _attention(self, block: Block, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return the residual stream (1, T, C) after a layer's attention."""
        attention = block.attention
        normed = block.attention_norm(x)
        q, k, v = attention.project(normed, rotary)
        weights = attention_weights(q, attention.share(k))  # (1, H, T, T)
        gathered = weights @ attention.share(v)  # (1, H, T, D)
        mixed = attention.merge(gathered)
        after = x + mixed
        self._note(6, "norm", normed[0, -1], x[0, -1])
        for name, heads in (("query", q), ("key", k), ("value", v)):
            self._note(6, name, heads[0, :, -1])
        shared = (q, attention.share(k), attention.share(v), gathered)
        norms = torch.stack([heads[0, :, -1].float().norm(dim=-1) for heads in shared], dim=1)  # (H, 4)
        for head, (row, four) in enumerate(zip(weights[0, :, -1], norms.tolist(), strict=True), 1):
            self.heads.append(self._head(head, four, row))
        self._note(7, "attention", mixed[0, -1], x[0, -1])
        self._note(7, "residual", after[0, -1], x[0, -1])
        return after

    def _head(self, head: int, norms: list[float], weights: Tensor) -> Head:
        best = weights.topk(min(self.top, len(weights)))
        attended = tuple(
            Attended(self._start + at + 1, self.ids[at], self.tokenizer.token_bytes(self.ids[at]), weight)
            for at, weight in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
        rest = weights.index_fill(0, best.indices, 0.0).double().sum()
        query, key, value, output = norms
        return Head(self._layer or 0, head, query, key, value, output, attended, float(rest))

    def _feed_forward(self, block: Block, x: Tensor) -> Tensor:
        """Return the residual stream (1, T, C) after a layer's feed-forward part."""
        normed = block.mlp_norm(x)
        units = activate(block.mlp.up(normed), block.mlp.activation)  # (1, T, F)
        narrowed: Tensor = block.mlp.down(units)
        after = x + narrowed
        self._note(8, "norm", normed[0, -1], x[0, -1])
        self._note(8, "units", units[0, -1], active=int((units[0, -1] > 0).sum()))
        self._note(8, "feed-forward", narrowed[0, -1], x[0, -1])
        self._note(8, "residual", after[0, -1], x[0, -1])
        return after

    def _note(
        self, number: int, name: str, x: Tensor, before: Tensor | None = None, active: int | None = None
    ) -> None:
        flat = x.flatten().double()
        cosine = None
        if before is not None:
            cosine = float(torch.cosine_similarity(flat, before.flatten().double(), dim=0))
        stage = Stage(
            number=number,
            layer=self._layer,
            name=name,
            shape=tuple(x.shape),
            norm=float(flat.norm()),
            cosine=cosine,
            values=tuple(flat[:SHOWN].tolist()),
            active=active,
        )
        self.stages.append(stage)


def merges_of(token: bytes, ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the merges that make a token of its bytes: the pair of lowest rank each time."""
    parts, merges = [token[at : at + 1] for at in range(len(token))], []
    while pairs := list(_mergeable(parts, ranks)):
        _, at = min(pairs)
        merges.append((parts[at], parts[at + 1]))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return merges


def _mergeable(parts: list[bytes], ranks: Mapping[bytes, int]) -> Iterator[tuple[int, int]]:
    for at in range(len(parts) - 1):
        if (rank := ranks.get(parts[at] + parts[at + 1])) is not None:
            yield rank, at


def _next(tokenizer: Tokenizer, logits: Tensor, rest: tuple[int, ...]) -> Next | None:
    if not rest:
        return None
    known = logits[: tokenizer.vocab_size].double()
    token = rest[0]
    rank = int((known > known[token]).sum()) + 1
    return Next(token, tokenizer.token_bytes(token), rank, float(logits_to_probs(known)[token]))

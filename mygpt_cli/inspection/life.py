"""The life of a token: every stage from its text to the model's prediction of the next, run one by one."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.base.errors import UsageError
from mygpt_cli.config.sampling import Sampling
from mygpt_cli.generation.logits import logits_to_probs
from mygpt_cli.generation.stream import Prompt
from mygpt_cli.inspection.steps import StepView, view_steps
from mygpt_cli.inspection.trace import Trace, calls_of, check_chosen, heads_of, logits_of, trace
from mygpt_cli.model.gpt import repeat_kv
from mygpt_cli.tokens.tokenizer import Tokenizer

SHOWN = 8  # first values of each stage
# Parts whose results another stage shows: queries and keys as they meet, what the units make of `up`.
INNER = ("attention.qkv", "attention.query_norm", "attention.key_norm", "attention.out", "mlp.up")


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
    the end of the text. Of `layers`, `stages` and `heads` tell of those that were asked for. So many heads
    share one head of keys and values, `sharing`; the `unrotated` layers, from 1, know no positions.
    """

    arch: str
    positions: str
    norm: str
    norm_gain: bool
    qk_norm: str
    qk_norm_gain: bool
    unrotated: tuple[int, ...]
    sharing: int
    activation: str
    gated: bool
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
    layers: int
    stages: tuple[Stage, ...]
    heads: tuple[Head, ...]
    difference: float
    choice: StepView
    follows: Next | None


def view_life(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: Prompt,
    sampling: Sampling,
    *,
    position: int | None = None,
    layer: int | None = None,
    head: int | None = None,
    top: int = 5,
    watch: Callable[[Trace], None] = lambda traced: None,
) -> LifeView:
    """Follow the token at a position of the prompt (from 1, by default its last) through the model.

    Of layers and heads, one or all are looked at. UsageError when there is no such position, layer or head.
    `watch` sees the trace of the text up to that position.
    """
    model = decoder.model
    check_chosen(model, layer, head)
    length = len(prompt.ids)
    position = length if position is None else position
    if not 1 <= position <= length:
        raise UsageError(f"there is no position {position}", f"the prompt has positions 1 to {length:,}")
    before = prompt.ids[:position]
    ended = Prompt(tokenizer.decode_bytes(before).decode("utf-8", "replace"), before)
    (choice,) = view_steps(decoder, tokenizer, ended, replace(sampling, max_new_tokens=1), top=top)
    traced = trace(model, before)
    watch(traced)
    logits = logits_of(traced, traced.streams[-1][-1])
    own = decoder.prefill(torch.tensor([traced.ids], device=model.embedding.device))[0]
    token = tokenizer.token_bytes(before[-1])
    merges = merges_of(token, tokenizer.ranks) if tokenizer.ranks else []
    start = position - len(traced.ids)
    layers = range(model.config.layers) if layer is None else [layer - 1]
    return LifeView(
        arch=model.config.arch,
        positions=model.config.positions,
        norm=model.config.norm,
        norm_gain=model.config.norm_gain,
        qk_norm=model.config.qk_norm,
        qk_norm_gain=model.config.qk_norm_gain,
        unrotated=tuple(layer + 1 for layer in model.config.unrotated),
        sharing=model.config.heads // model.config.kv_heads,
        activation=model.config.activation,
        gated=model.config.gated,
        softcap=model.config.softcap,
        position=position,
        length=length,
        context=tokenizer.decode_bytes(traced.ids),
        token=token,
        id=before[-1],
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer.kind,
        merges=tuple(merges),
        merged=len(token) == 1 or bool(merges and b"".join(merges[-1]) == token),
        layers=model.config.layers,
        stages=tuple(replace(stage, values=stage.values[:SHOWN]) for stage in stages_of(traced, layers)),
        heads=tuple(
            found
            for at in layers
            for found in _heads(traced, at, start, tokenizer, top)
            if head in (None, found.head)
        ),
        difference=float((logits - own.cpu().double()).abs().max()),
        choice=choice,
        follows=_next(tokenizer, logits, prompt.ids[position:]),
    )


@torch.no_grad()
def stages_of(traced: Trace, layers: Iterable[int]) -> Iterator[Stage]:
    """Yield the stages of the last token, in these layers, counted from 0, each with all its values."""
    model, length = traced.model, len(traced.ids)
    embedding = model.embed(torch.tensor(traced.ids[-1], device=model.embedding.device))
    x = embedding
    yield _stage(4, "embedding", embedding)
    if model.positions is not None:
        position = model.positions[length - 1]
        x = embedding + position.to(x.dtype)
        yield _stage(5, "position", position, embedding)
        yield _stage(5, "residual", x, embedding)
    if model.embedding_norm is not None:
        yield _stage(5, "norm", traced.streams[0][-1], x)
    if rotary := model.rotary(length - 1, length):
        yield _stage(5, "rotary cosines", rotary[0][-1])
    for layer in layers:
        for stage in _layer(traced, layer):
            yield replace(stage, layer=layer + 1)
    x = traced.streams[-1][-1]
    hidden = model.norm(x)
    yield _stage(9, "final norm", hidden, x)
    scores = model.score(hidden)
    logits = model.softcap(scores)
    yield _stage(10, "logits", scores)
    if model.config.softcap:
        yield _stage(10, "soft cap", logits, scores)
    yield _stage(11, "softmax", logits_to_probs(logits.double()))


def _layer(traced: Trace, layer: int) -> Iterator[Stage]:
    """Yield the stages of a layer, counted from 0: what its parts computed, in their order."""
    calls = calls_of(traced, layer)
    before, after = traced.streams[layer][-1], traced.streams[layer + 1][-1]
    for part, (inputs, output) in calls.items():
        last = output[0, ..., -1, :]
        if part == "attention_norm":
            yield _stage(6, "norm", last, before)
        elif part == "attention.sdpa":
            for name, each in zip(("query", "key", "value"), inputs, strict=True):
                yield _stage(6, name, each[0, :, -1])
        elif part == "attention":
            yield _stage(7, "attention", last, before)
        elif part == "mlp_norm":
            between = inputs[0][0, -1]
            yield _stage(7, "residual", between, before)
            yield _stage(8, "norm", last, between)
        elif part == "mlp.down":
            units = inputs[0][0, -1]
            yield replace(_stage(8, "units", units), active=int((units > 0).sum()))
        elif part == "mlp":
            yield _stage(8, "feed-forward", last, between)
        elif part not in INNER:
            yield _stage(7 if part.startswith("attention") else 8, part.rpartition(".")[-1], last)
    yield _stage(8, "residual", after, between)


def _stage(number: int, name: str, x: Tensor, before: Tensor | None = None) -> Stage:
    flat = x.flatten().double()
    cosine = None
    if before is not None:
        cosine = float(torch.cosine_similarity(flat, before.flatten().double(), dim=0))
    return Stage(
        number=number,
        layer=None,
        name=name,
        shape=tuple(x.shape),
        norm=float(flat.norm()),
        cosine=cosine,
        values=tuple(flat.tolist()),
    )


def _heads(traced: Trace, layer: int, start: int, tokenizer: Tokenizer, top: int) -> Iterator[Head]:
    """Yield the heads of a layer, counted from 0, at the last token; the text before it begins at `start`."""
    heads = heads_of(traced, layer)
    key, value = (repeat_kv(x[None], len(heads.query))[0] for x in (heads.key, heads.value))
    parts = (heads.query, key, value, heads.gathered)
    norms = torch.stack([part[:, -1].float().norm(dim=-1) for part in parts], dim=1)  # (H, 4)
    for head, (four, weights) in enumerate(zip(norms.tolist(), heads.weights[:, -1], strict=True), 1):
        best = weights.topk(min(top, len(weights)))
        attended = tuple(
            Attended(start + at + 1, traced.ids[at], tokenizer.token_bytes(traced.ids[at]), weight)
            for at, weight in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
        rest = weights.index_fill(0, best.indices, 0.0).double().sum()
        query, key, value, output = four
        yield Head(layer + 1, head, query, key, value, output, attended, float(rest))


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
    token = rest[0]
    rank = int((logits > logits[token]).sum()) + 1
    return Next(token, tokenizer.token_bytes(token), rank, float(logits_to_probs(logits)[token]))

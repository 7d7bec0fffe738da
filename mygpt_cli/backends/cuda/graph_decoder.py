"""Decoding on a GPU: a step is captured as a CUDA graph once, and its kernels are then launched all together.

Shapes: B sequences, S places in the cache that attention looks at, H heads, K key/value heads, D head width,
C channels, V vocabulary.
"""

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from mygpt_cli.backends.cpu.sampler import CompiledSampler
from mygpt_cli.backends.reference import ReferenceDecoder, with_best
from mygpt_cli.model.gpt import GPT, Block
from mygpt_cli.model.kv_cache import KVCache

LEAST_SPAN = 256  # places; looking at fewer saves too little for a graph of its own
WARM_UP = 3  # steps before one is captured: libraries make their choices, and take their memory, in the first


def step(model: GPT, keys: Tensor, values: Tensor, inputs: Tensor, span: int) -> Tensor:
    """Read a token of each sequence at its place, `inputs` (2, B); return the next token's logits (B, V).

    The keys and values (layers, B, K, ·, D) of the tokens before are there; those of these are written. All
    places are below `span`, S. No shape and no branch depends on what is in a tensor.
    """
    ids, places = inputs
    rows = torch.arange(len(ids), device=ids.device)
    back = places[:, None, None, None] - torch.arange(span, device=ids.device)  # (B, 1, 1, S)
    later = back < 0
    x = model.embed(ids[:, None])  # (B, 1, C)
    rotary = None
    if model.positions is not None:
        x = x + model.positions[places, None].to(x.dtype)
    if model.config.positions == "rotary":
        rotary = (model.cos[places, None, None].to(x.dtype), model.sin[places, None, None].to(x.dtype))
    if model.embedding_norm is not None:
        x = model.embedding_norm(x)
    blocks = cast("Iterable[Block]", model.blocks)
    for block, all_keys, all_values in zip(blocks, keys, values, strict=True):
        q, k, v = block.attention.project(block.attention_norm(x), rotary)  # (B, H, 1, D), 2 × (B, K, 1, D)
        all_keys[rows, :, places], all_values[rows, :, places] = k[:, :, 0], v[:, :, 0]
        # Heads that share keys are rows of one product: nothing is repeated.
        shared = q.view(len(ids), k.size(1), -1, q.size(-1)) * q.size(-1) ** -0.5  # (B, K, H/K, D)
        scores = shared @ all_keys[:, :, :span].transpose(-2, -1)  # (B, K, H/K, S)
        window = block.attention.sdpa.window
        unseen = later | (back >= window) if window else later
        weights = scores.masked_fill(unseen, -math.inf).softmax(dim=-1)
        x = x + block.attention.merge((weights @ all_values[:, :, :span]).view(q.shape))
        x = x + block.mlp(block.mlp_norm(x))
    return model.unembed(model.norm(x)[:, 0])


class GraphDecoder(ReferenceDecoder):
    """A model's step for one cache at a time, captured for each batch and span, both in powers of two.

    Where that fails, `warn` is told once, and the step is taken without: as always on a CPU, for tests.
    """

    def __init__(
        self, model: GPT, warn: Callable[[str], None], sampler: CompiledSampler | None = None
    ) -> None:
        super().__init__(model, sampler)
        self._warn = warn
        # The stream on which to warm up and capture; without one nothing is captured.
        self._aside: torch.cuda.Stream | None = None
        if model.embedding.device.type == "cuda":
            self._aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._cache: Callable[[], KVCache | None] = lambda: None
        self._inputs = torch.empty(0)
        self._steps: dict[tuple[int, int], Callable[[], Tensor]] = {}
        self._pool: Any = None

    @torch.inference_mode()
    def decode(self, ids: Sequence[int], cache: KVCache) -> tuple[Tensor, list[int]]:
        """Read one more token for each sequence in the cache; return the next logits and best tokens."""
        if self._cache() is not cache:
            self._begin(cache)
        used, most = len(ids), cache.keys.size(1)
        batch = _rounded_up(used, 1, most)
        span = _rounded_up(max(cache.lengths) + 1, LEAST_SPAN, cache.capacity)
        # Rows beyond those in use read whatever is there, into room that is written anew before it is used.
        self._inputs[:, :used] = torch.tensor((ids, cache.lengths))
        if (batch, span) not in self._steps:
            inputs = (cache.keys[:, :batch], cache.values[:, :batch], self._inputs[:, :batch])
            self._steps[batch, span] = self._prepared(partial(step, self.model, *inputs, span))
        logits = self._steps[batch, span]()[:used].clone()  # a graph writes to the same place each time
        cache.lengths = [length + 1 for length in cache.lengths]
        return with_best(logits)

    def _begin(self, cache: KVCache) -> None:
        """Forget what was captured for another cache.

        Graphs that were captured on one stream share cuBLAS's workspace, which the first of them to go takes
        with it: so all go, before others are captured.
        """
        self._steps.clear()
        self._pool = None
        self._cache = weakref.ref(cache)
        self._inputs = torch.zeros(2, cache.keys.size(1), dtype=torch.long, device=cache.keys.device)

    def _prepared(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Return what does this work, captured if possible."""
        if self._aside is None:
            return work
        try:
            return self._captured(work, self._aside)
        except RuntimeError as fault:
            self._steps.clear()  # for the reason of `_begin`
            self._aside = None
            reason = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
            self._warn(f"decoding without a CUDA graph, which is slower: {reason}")
            return work

    def _captured(self, work: Callable[[], Tensor], aside: torch.cuda.Stream) -> Callable[[], Tensor]:
        """Capture this work, which may be done several times; RuntimeError where that fails."""
        here = torch.cuda.current_stream()
        aside.wait_stream(here)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(aside):  # a capture that fails leaves its stream behind; this puts it right
            for _ in range(WARM_UP):
                work()
            with torch.cuda.graph(graph, pool=self._pool, stream=aside):
                result = work()
        here.wait_stream(aside)
        self._pool = graph.pool()  # one for all graphs, of which only one runs at a time

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def _rounded_up(count: int, least: int, most: int) -> int:
    """Return the next power of two from `least` on, or `most` if that is less."""
    return min(most, max(least, 1 << (count - 1).bit_length()))

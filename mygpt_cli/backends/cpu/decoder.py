"""Decoding on a CPU by `decode.c`: one call for a step, at the speed at which the weights can be read.

B sequences, T tokens read at once, V vocabulary.
"""

import ctypes
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mygpt_cli.backends.cpu.native import Kernel, compile_library
from mygpt_cli.backends.cpu.sampler import Picker
from mygpt_cli.base.errors import ResourceError, UsageError, did_you_mean
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT, Block
from mygpt_cli.model.kv_cache import KVCache

LANES, ROWS, TOKENS = 16, 32, 4  # those of `decode.c`
LARGE_PAGE = 2**21
ACTIVATIONS = ("relu", "relu2", "gelu_new", "gelu")  # in the order of `decode.c`
WEIGHTS = {"float32": [], "bfloat16": ["-DBFLOAT16"], "int8": ["-DINT8"]}


def round_weights(model: GPT, kind: str) -> None:
    """Round the matrices of a model, in place, to what `kind` of weights can hold.

    bfloat16 keeps 8 bits of each number. int8 keeps of each row the largest magnitude, and 127 equal steps
    up to it. So the model itself is what every way of computing it gives.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and name != "positions" and kind != "float32":
                weight.copy_(weight.bfloat16() if kind == "bfloat16" else torch.mul(*_quantised(weight)))


def speed_up(model: GPT, quantize: str | None, folder: Path) -> None:
    """Round a model's weights and let it decode, and pick tokens, by compiled code, where it can.

    `quantize` is `bfloat16`, `int8` or `none`; without one, weights are rounded to bfloat16 where that is
    faster. UsageError when it is something else.
    """
    kinds = {None: "bfloat16", "none": "float32"} | {kind: kind for kind in WEIGHTS if kind != "float32"}
    if quantize not in kinds:
        names = [name for name in kinds if name]
        raise UsageError(
            f"weights cannot be quantized to '{quantize}'{did_you_mean(str(quantize), names)}",
            ", ".join(names),
        )
    try:
        model.picker = Picker(folder)
        if model.embedding.device.type == "cpu" and takes(model.config):
            library = compile_library("decode", WEIGHTS[kinds[quantize]], folder)
            round_weights(model, kinds[quantize])
            model.decoder = Decoder(model, kinds[quantize], library)
            return
    except ResourceError:  # no compiler: slower, and that is all
        pass
    if quantize:
        round_weights(model, kinds[quantize])


def takes(config: ModelConfig) -> bool:
    """Whether `decode.c` knows all parts of such a model."""
    layer_norm = config.norm == "layer" and config.norm_gain
    rms_norm = config.norm == "rms" and not config.norm_gain and not config.norm_bias
    learned = config.positions == "learned" and config.qk_norm == "none" and not config.embedding_norm
    rotary = config.positions == "rotary" and config.qk_norm == "after" and not config.qk_norm_gain
    return (
        ((layer_norm and learned) or (rms_norm and (learned or (rotary and config.embedding_norm))))
        and not config.gated
        and config.nonlinearity in ACTIVATIONS
        and not config.scales_queries
        and not config.unrotated
        and config.heads * config.head_width == config.width
    )


def _quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers from -127 to 127 and the scale of each row (rows, 1)."""
    scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) / 127
    return (weight / scale).round(), scale


class Decoder:
    """A model's weights, packed for `decode.c` compiled for this `kind` of them."""

    def __init__(self, model: GPT, kind: str, library: ctypes.CDLL) -> None:
        self._kernel = Kernel(library, "decode", "tttiiiiitttttrr")
        self.config, self.kind = model.config, kind
        self._tensors: list[Tensor] = []  # that the addresses are of
        self._model = torch.tensor([*self._shape(), *(self._address(t) for t in self._parts(model))])
        self._scratch = torch.zeros(0)

    def read(self, ids: Sequence[int], cache: KVCache) -> tuple[Tensor, list[int]]:
        """Read tokens (B · T) after those in the cache, as many for each sequence.

        Returns the logits (B · T, V) of the next token after each, and the best of these, -1 where the logits
        are not finite. A token's logits are the same bits whoever else is read, and however many of its own
        text at once.
        """
        count, batch = len(ids), len(cache.lengths)
        logits = torch.empty(count, self.config.vocab_size)
        best = (ctypes.c_int64 * count)()
        self._kernel(
            self._model,
            (ctypes.c_int64 * count)(*ids),
            (ctypes.c_int64 * batch)(*cache.lengths),
            batch,
            count // batch,
            self.config.vocab_size,
            cache.capacity,
            cache.keys.size(1),
            cache.keys,
            cache.values,
            self._room(count),
            logits,
            best,
            self.config.norm_eps,
            self.config.softcap,
        )
        cache.lengths = [length + count // batch for length in cache.lengths]
        return logits, list(best)

    def step(self, ids: Tensor, cache: KVCache) -> Tensor:
        """Read tokens (B, T) and return only their logits (B, T, V)."""
        return self.read(ids.flatten().tolist(), cache)[0].view(*ids.shape, -1)

    def _shape(self) -> list[int]:
        """List the numbers at the start of the struct `model` of `decode.c`, in its order."""
        config = self.config
        heads = [config.heads, config.kv_heads, config.head_width]
        return [config.layers, config.width, *heads, config.mlp_width, ACTIVATIONS.index(config.nonlinearity)]

    def _room(self, count: int) -> Tensor:
        config = self.config
        qkv = (config.heads + 2 * config.kv_heads) * config.head_width
        size = count * (config.width + 2 * _padded(config.width) + qkv + _padded(config.mlp_width))
        if self._scratch.numel() != size:
            self._scratch = torch.zeros(size)
        return self._scratch

    def _parts(self, model: GPT) -> Iterator[Tensor | None]:
        """List the tensors of the struct `model` of `decode.c`, in its order."""
        head = model.embedding if model.head is None else model.head.weight
        yield from (model.embedding, model.positions)
        yield from (None, None) if model.positions is not None else (model.cos, model.sin)
        yield from (model.norm.weight, model.norm.bias)
        yield from (*self._packed(head), None)
        for block in cast("Iterable[Block]", model.blocks):
            for norm in (block.attention_norm, block.mlp_norm):
                yield from (norm.weight, norm.bias)
            for linear in (block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down):
                bias = linear.bias
                yield from (*self._packed(linear.weight), bias if bias is None else _filled(bias))

    def _packed(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a matrix in the order in which `decode.c` reads it, and the scales of its rows."""
        padded = _filled(F.pad(weight.detach(), (0, -weight.size(1) % LANES)))
        if self.kind == "int8":
            numbers, scales = _quantised(padded)
            return _ordered(numbers.to(torch.int8), 4), scales
        if self.kind == "bfloat16":
            return _ordered(padded.bfloat16(), 2), None
        return _ordered(padded, 1), None

    def _address(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        self._tensors.append(tensor.detach().contiguous())
        return self._tensors[-1].data_ptr()


def _filled(rows: Tensor) -> Tensor:
    """Fill (rows,) or (rows, columns) up to a multiple of ROWS with zeros."""
    missing = rows.new_zeros(-len(rows) % ROWS, *rows.shape[1:])
    return torch.cat((rows.detach(), missing))


def _ordered(rows: Tensor, together: int) -> Tensor:
    """Order ROWS rows at a time by two columns, by column, by half of the rows, by row.

    Of the four halves of two columns, so many are `together`: their numbers side by side.
    """
    halves = rows.view(-1, 2, LANES, rows.size(1) // 2, 2).permute(0, 3, 4, 1, 2)
    ordered = halves.reshape(-1, 4 // together, together, LANES).transpose(-1, -2)
    return room_for(ordered).copy_(ordered)


def room_for(tensor: Tensor) -> Tensor:
    """Return memory for a tensor, in large pages where it is large: addresses are looked up faster."""
    if tensor.nbytes < LARGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    size = -(-tensor.nbytes // LARGE_PAGE) * LARGE_PAGE
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel()).view(tensor.shape)


def _padded(width: int) -> int:
    return -(-width // LANES) * LANES

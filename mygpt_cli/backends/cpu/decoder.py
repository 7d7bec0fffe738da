"""Decoding on a CPU by `decode.c`: one call for a step, at the speed at which the weights can be read.

B sequences, T tokens read at once, V vocabulary.
"""

import contextlib
import ctypes
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mygpt_cli.backends.cpu.native import Kernel, compile_library
from mygpt_cli.backends.cpu.sampler import CompiledSampler
from mygpt_cli.backends.reference import ReferenceDecoder
from mygpt_cli.model.config import ModelConfig
from mygpt_cli.model.gpt import GPT, Block, Linear, Norm
from mygpt_cli.model.kv_cache import KVCache

LANES, ROWS, TOKENS = 16, 32, 4  # those of `decode.c`
LARGE_PAGE = 2**21
ALIGNED, ALLOCATED = 4096, 2**26  # bytes: where a matrix begins, and how many are allocated at once
PREFILLED_AT_ONCE = 48  # tokens
ACTIVATIONS = ("relu", "relu2", "gelu_new", "gelu", "silu")  # in the order of `decode.c`
NORMS = ("none", "rms", "layer")  # in the order of `decode.c`
WEIGHTS = {"float32": [], "bfloat16": ["-DBFLOAT16"], "int8": ["-DINT8"]}
PACKED = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


def round_weights(model: GPT, kind: str) -> None:
    """Round the matrices of a model, in place, to what `kind` of weights can hold.

    bfloat16 keeps 8 bits of each number. int8 keeps of each row the largest magnitude, and 127 equal steps
    up to it. So the model itself is what every way of computing it gives. Of a model that is mapped, only the
    embedding is rounded: the decoder rounds what it takes.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if model.mapped and name != "embedding":
                continue
            if weight.ndim == 2 and name != "positions" and kind != "float32":
                weight.copy_(weight.bfloat16() if kind == "bfloat16" else torch.mul(*_quantised(weight)))


def takes(config: ModelConfig) -> bool:
    """Whether `decode.c` knows all parts of such a model."""
    return config.nonlinearity in ACTIVATIONS and not config.scales_queries


def _quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers from -127 to 127 and the scale of each row (rows, 1)."""
    scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) / 127
    return (weight / scale).round(), scale


class CPUDecoder(ReferenceDecoder):
    """A model's weights, packed for `decode.c` compiled for this precision of them.

    Matrices that are mapped are taken out of the model as they are packed: the decoder then reads alone.
    """

    reads_ahead = True

    def __init__(
        self, model: GPT, weights: str, library: ctypes.CDLL, sampler: CompiledSampler | None = None
    ) -> None:
        super().__init__(model, sampler)
        self._kernel = Kernel(library, "decode", "tttiiiiitttttrr")
        self._pack = Kernel(library, "pack", "tttiiiii")
        self.config, self.weights, self._alone = model.config, weights, model.mapped
        self._tensors: list[Tensor] = []  # that the addresses are of
        self._free = torch.empty(0, dtype=torch.uint8)
        self._model = torch.tensor(list(self._fields(model)))
        self._scratch = torch.zeros(0)

    @classmethod
    def compiled(cls, model: GPT, weights: str, folder: Path, sampler: CompiledSampler | None = None) -> Self:
        """Round a model's weights in place, and pack them for code that is compiled unless the folder has it.

        Raises ResourceError where that fails.
        """
        library = compile_library("decode", WEIGHTS[weights], folder)
        round_weights(model, weights)
        return cls(model, weights, library, sampler)

    @staticmethod
    def takes(model: GPT) -> bool:
        """Whether this model can be decoded here: on a CPU, of parts that `decode.c` has."""
        return model.embedding.device.type == "cpu" and takes(model.config)

    def decode(self, ids: Sequence[int], cache: KVCache) -> tuple[Tensor, list[int]]:
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
            cache.keys.stride(0) // cache.keys.stride(1),  # more than it has, where it is a part of another
            cache.keys,
            cache.values,
            self._workspace(count),
            logits,
            best,
            self.config.norm_eps,
            self.config.softcap,
        )
        cache.lengths = [length + count // batch for length in cache.lengths]
        return logits, list(best)

    @torch.inference_mode()
    def prefill(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Read ids (B, T) into an empty cache, if there is one; return the next token's logits (B, V).

        The model does that faster, as long as it has its weights.
        """
        if not self._alone:
            return super().prefill(ids, cache)
        cache, last = cache or self.model.new_cache(*ids.shape), torch.empty(0)
        for some in torch.split(ids, PREFILLED_AT_ONCE, dim=1):
            logits, _ = self.decode(some.flatten().tolist(), cache)
            last = logits.view(*some.shape, -1)[:, -1]
        return last

    def _workspace(self, count: int) -> Tensor:
        config = self.config
        inner, kv = config.heads * config.head_width, config.kv_heads * config.head_width
        filled = sum(map(_padded, (config.width, inner, config.mlp_width)))
        size = count * (config.width + inner + 2 * kv + filled)
        if self._scratch.numel() != size:
            self._scratch = torch.zeros(size)
        return self._scratch

    def _fields(self, model: GPT) -> Iterator[int]:
        """List the struct `model` of `decode.c`: numbers, and addresses of tensors or 0."""
        config = self.config
        yield from (config.layers, config.width, config.heads, config.kv_heads, config.head_width)
        yield from (config.mlp_width, ACTIVATIONS.index(config.nonlinearity), config.qk_norm == "after")
        rotary = (None, None) if model.positions is not None else (model.cos, model.sin)
        yield from map(self._address, (model.embedding, model.positions, *rotary))
        yield from (*self._norm(model.embedding_norm), *self._norm(model.norm))
        if model.head is None:
            yield from map(self._address, (*self._packed(model.embedding), None))
        else:
            yield from self._linear(model.head)
        for block in cast("Iterable[Block]", model.blocks):
            attention, mlp = block.attention, block.mlp
            yield from (attention.rotates, attention.sdpa.window)
            for norm in (block.attention_norm, attention.query_norm, attention.key_norm, block.mlp_norm):
                yield from self._norm(norm)
            for linear in (attention.qkv, attention.out, mlp.gate, mlp.up, mlp.down):
                yield from (0, 0, 0) if linear is None else self._linear(linear)

    def _norm(self, norm: Norm | None) -> tuple[int, int, int]:
        """Return the kind of a norm in `decode.c`, and where its gain and bias are."""
        if norm is None:
            return 0, 0, 0
        return NORMS.index(norm.kind), self._address(norm.weight), self._address(norm.bias)

    def _linear(self, linear: Linear) -> Iterator[int]:
        """Return where the rows of a layer are, packed, their scales, and the bias."""
        packed, bias = self._packed(linear.weight), linear.bias
        if self._alone:
            linear.weight = nn.Parameter(linear.weight.to("meta"), requires_grad=False)
        return map(self._address, (*packed, bias if bias is None else _filled(bias)))

    def _packed(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a matrix in the order in which `decode.c` reads it, and the scales of its rows."""
        weight = weight.detach() if weight.dtype == torch.bfloat16 else weight.detach().float()
        rows, columns = -(-len(weight) // ROWS) * ROWS, _padded(weight.size(1))
        packed = self._allocate(rows * columns, PACKED[self.weights])
        scales = torch.empty(rows) if self.weights == "int8" else None
        shape = (*weight.shape, *weight.stride())
        self._pack(weight, packed, scales, *shape, weight.dtype == torch.bfloat16)
        return packed, scales

    def _allocate(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return memory for numbers: that of all matrices lies side by side, in large pages."""
        size = -(-count * dtype.itemsize // ALIGNED) * ALIGNED
        if size > len(self._free):
            self._free = allocate(torch.empty(max(size, ALLOCATED), dtype=torch.uint8, device="meta"))
        taken, self._free = self._free[:size], self._free[size:]
        return taken.view(dtype)[:count]

    def _address(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return 0
        self._tensors.append(tensor.detach().contiguous())
        return self._tensors[-1].data_ptr()


def _filled(bias: Tensor) -> Tensor:
    """Fill (rows,) up to a multiple of ROWS with zeros."""
    return F.pad(bias.detach(), (0, -len(bias) % ROWS))


def allocate(tensor: Tensor) -> Tensor:
    """Return memory for a tensor, in large pages where it is large: addresses are looked up faster."""
    if tensor.nbytes >= LARGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        size = -(-tensor.nbytes // LARGE_PAGE) * LARGE_PAGE
        with contextlib.suppress(OSError):  # a kernel without large pages, or no memory, of which torch tells
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_HUGEPAGE)
            return torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel()).view(tensor.shape)
    return torch.empty_like(tensor, device="cpu", memory_format=torch.contiguous_format)


def _padded(width: int) -> int:
    return -(-width // LANES) * LANES

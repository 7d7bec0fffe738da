"""Whether a model fits into memory, known before any is taken for it."""

import math

from mygpt_cli.base.errors import ResourceError
from mygpt_cli.checkpoints import hf
from mygpt_cli.model.config import ModelConfig

BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}  # of a weight
PACKING = 500_000_000  # bytes for what lies between while weights are packed


def count_weights(config: ModelConfig) -> int:
    """Return how many numbers a model of this shape has, without allocating any."""
    return sum(math.prod(slot.shape) for slot in hf.slots(config) if slot.ours)


def bytes_needed(config: ModelConfig, packed: str = "", *, mapped: bool = False) -> int:
    """Estimate the memory of a model in float32, or `mapped`: with the matrices of its layers in the file.

    `packed` is the type of weights that a decoder keeps beside it, if there is one.
    """
    numbers = count_weights(config)
    positions = config.context * config.width if config.positions == "learned" else 0
    embedding = config.vocab_size * config.width
    matrices = numbers - positions - (0 if config.tied else embedding)
    # What the file has in several tensors is put together.
    joined = sum(math.prod(slot.shape) for slot in hf.slots(config) if slot.rows)
    copies = BYTES[packed] * matrices + PACKING * mapped if packed else BYTES["float32"] * joined * mapped
    return copies + BYTES["float32"] * (embedding + positions if mapped else numbers)


def keep_whole(config: ModelConfig, free: int, packed: str = "") -> bool:
    """Say that no matrices are left in the file; ResourceError when that takes more bytes than are free."""
    if (needed := bytes_needed(config, packed)) > free:
        raise _too_large(config, needed, free, packed)
    return False


def map_where_needed(config: ModelConfig, free: int, packed: str) -> bool:
    """Say whether matrices are left in the file, for a model that only a decoder reads with, or none does.

    They are where they do not fit into memory beside those that the decoder packs as this type, if there is
    one. ResourceError when these alone take more bytes than are free.
    """
    if bytes_needed(config, packed) <= free:
        return False
    if (needed := bytes_needed(config, packed, mapped=True)) > free:
        raise _too_large(config, needed, free, packed)
    return True


def _too_large(config: ModelConfig, needed: int, free: int, packed: str) -> ResourceError:
    """Say what would fit: the same command with smaller weights, or else `mygpt sample`."""
    message = f"this model takes about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
    for command, mapped in [("", False)] * bool(packed) + [("mygpt sample ", True)]:
        for kind in sorted(BYTES, key=lambda kind: kind != packed):
            if bytes_needed(config, kind, mapped=mapped) <= free:
                name = kind.replace("float32", "none")
                return ResourceError(message, f"`{command}--quantize {name}` would fit")
    return ResourceError(message, "no type of weights is small enough")

"""What a `config.json` says of rotary positions, in the names of transformers 5 and in the older ones."""

from typing import Any

from mygpt_cli.model.architectures.base import Reader
from mygpt_cli.model.config import SCALINGS, ModelConfig, RopeScaling

THETA = 10000.0


def read_rotary(read: Reader, context: int, theta: float = THETA) -> dict[str, Any]:
    """Return the parts `rope_theta` and `rope_scaling` of a model that was made for so long a context.

    As in transformers 5: `rope_scaling`, the older name, hides `rope_parameters`, and what either lacks may
    stand beside it. Kinds of scaling that mygpt does not have are faults.
    """
    rope = read.part("rope_scaling" if read.raw.get("rope_scaling") else "rope_parameters")
    parts: dict[str, Any] = {"rope_theta": rope.number("rope_theta", read.number("rope_theta", theta))}
    for place in (read, rope):
        place.only("partial_rotary_factor", 1.0)
    if nested := [name for name, value in rope.raw.items() if isinstance(value, dict)]:
        read.faults.append(f"a rotation of its own for '{nested[0]:.100}' is not supported")
        return parts
    kind = rope.word("rope_type", rope.word("type", "default"))
    if kind in SCALINGS:
        beside = "original_max_position_embeddings" in read.raw
        parts["rope_scaling"] = _scaling(kind, rope, read if beside else rope, context)
    elif kind != "default":
        known = ", ".join(("default", *SCALINGS[:-1]))
        read.faults.append(f"rope_type = {kind!r:.100} is not supported, only {known} and {SCALINGS[-1]}")
    return parts


def _scaling(kind: str, rope: Reader, original: Reader, context: int) -> RopeScaling:
    factor = rope.number("factor")
    if kind == "linear":
        return RopeScaling(kind=kind, factor=factor)
    return RopeScaling(
        kind=kind,
        factor=factor,
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_context=original.whole("original_max_position_embeddings", context),
    )


def rope_parameters(config: ModelConfig) -> dict[str, Any]:
    """Return them as transformers 5 names them."""
    scaling = config.rope_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": config.rope_theta}
    described: dict[str, Any] = {
        "rope_type": scaling.kind,
        "rope_theta": config.rope_theta,
        "factor": scaling.factor,
    }
    if scaling.kind == "llama3":
        described |= {
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    return described


def rope_in_both_names(config: ModelConfig) -> dict[str, Any]:
    """Return them as transformers 5 names them, and in the names of all that is older."""
    described = rope_parameters(config)
    scaling = {name: value for name, value in described.items() if name != "rope_theta"}
    return {
        "rope_parameters": described,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling if config.rope_scaling else None,
    }

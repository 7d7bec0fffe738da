"""What the readers of tokenizer files share: values of a given type, and words for what is wrong."""

from pathlib import Path
from typing import Any

from mygpt_cli.base.errors import CheckpointError


class UnsupportedError(CheckpointError):
    """A file that is sound, and of a kind that this reader does not know."""


def get(path: Path, holder: dict[str, Any], key: str, kind: type, default: object = None) -> Any:
    """Return a value of an object; CheckpointError when it is not of this kind."""
    value = holder.get(key, default)
    if not isinstance(value, kind):
        raise damaged(path, f"has no '{key}' of type {kind.__name__}")
    return value


def flag(path: Path, holder: dict[str, Any], key: str, default: bool = False) -> bool:
    """Return a value that is true or false, and by default also null; CheckpointError for anything else."""
    value = holder.get(key, default)
    if value is not None and not isinstance(value, bool):
        raise damaged(path, f"has a '{key}' that is neither true nor false")
    return default if value is None else value


def type_of(part: object) -> object:
    """Return the type that a component of a tokenizer has; None when it is none."""
    return part.get("type") if isinstance(part, dict) else None


def steps_of(path: Path, component: Any, key: str) -> list[Any]:
    """Return the components of a `Sequence`, which holds them under this key, or the one that there is.

    A sequence within a sequence counts as its steps. CheckpointError where that goes on for too long.
    """
    steps: list[Any] = []
    left = [] if component is None else [component]
    while left:
        step = left.pop(0)
        if type_of(step) == "Sequence":
            left = [*get(path, step, key, list), *left]
        else:
            steps.append(step)
        if len(steps) + len(left) > 64:
            raise damaged(path, f"has more than 64 {key}")
    return steps


def damaged(path: Path, what: str) -> CheckpointError:
    """Return the error for a file that contradicts itself."""
    return CheckpointError(
        f"{path} {what}", "the file is damaged; copy the checkpoint again or train a new one"
    )


def unsupported(path: Path, what: str) -> UnsupportedError:
    """Return the error for a file that is sound but of another kind."""
    return UnsupportedError(
        f"{path} has {what} and mygpt does not support that",
        "byte-level and SentencePiece-style byte-pair encoding work, as in GPT-2, Llama, Mistral and Qwen",
    )

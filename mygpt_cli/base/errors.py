"""Every fault that a user can cause, with its exit code and a way out."""

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class MygptError(Exception):
    """A fault shown as `error: message` and `hint: hint`, without a traceback.

    The exit code is 1 (runtime fault); subclasses name the other kinds.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MygptError):
    """A flag, a configuration or a combination of them that cannot be used; or several of these faults."""

    exit_code = 2

    def __init__(self, faults: str | Sequence[str], hint: str = "") -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__(join_faults(self.faults), hint)


class CheckpointError(MygptError):
    """A checkpoint that is missing, damaged, or not one that mygpt can open."""

    exit_code = 3


class TextError(MygptError):
    """A text that cannot be read, decoded or trained on."""

    exit_code = 4


class ResourceError(MygptError):
    """Memory, disk or a lock that could not be had."""

    exit_code = 5


class DivergedError(MygptError):
    """Training whose numbers stopped being finite."""

    exit_code = 6


class LostProcessError(MygptError):
    """Another process of the same run has ended or cannot be reached."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch, on a CPU or a GPU, means that memory ran out."""
    text = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def may_be_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, or perhaps did: oneDNN does not say why it could not create a primitive."""
    return is_out_of_memory(error) or "could not create a primitive" in str(error)


def join_faults(faults: Sequence[str], are: str = "are wrong", most: int = 1000) -> str:
    """Put several faults into one message, one line each, and `most` of them at most."""
    if len(faults) == 1:
        return faults[0]
    shown = [*faults[:most], *([f"and {len(faults) - most:,} more"] if len(faults) > most else [])]
    return f"{len(faults):,} things {are}:\n" + "\n".join(f"  - {fault}" for fault in shown)


def together(*checks: Callable[[], T]) -> list[T]:
    """Call them all and return what they return; raises one UsageError with the faults of all."""
    results, errors = [], []
    for check in checks:
        try:
            results.append(check())
        except UsageError as error:
            errors.append(error)
    if errors:
        raise UsageError([fault for error in errors for fault in error.faults], errors[0].hint) from None
    return results


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return ` (did you mean 'X'?)` for the nearest known word, or an empty string if none is so near."""
    near = get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f" (did you mean '{near[0]}'?)" if near else ""

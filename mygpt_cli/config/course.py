"""How many steps a run has, as planned and as corrected on the way to keep a budget of time."""

from typing import Any

Course = tuple[tuple[int, int], ...]  # from a step on, so many steps in all; the first is the plan, from 0 on

MOST_STEPS = 1_000_000_000
MOST_CORRECTIONS = 10_000


def steps_at(course: Course, step: int) -> int:
    """Return how many steps the run was to have in all when it took this one (from 0)."""
    return next(steps for since, steps in reversed(course) if since <= step)


def as_course(value: Any) -> Any:
    """Turn the lists of a file into a course; what is none is left for `is_course` to refuse."""
    if not isinstance(value, list):
        return value
    return tuple(tuple(part) if isinstance(part, list) else part for part in value)


def is_course(value: Any) -> bool:
    """Whether each correction comes after the one before, and before the end that it set."""
    if not isinstance(value, tuple) or len(value) > MOST_CORRECTIONS:
        return False
    last, end = -1, MOST_STEPS
    for pair in value:
        whole = isinstance(pair, tuple) and len(pair) == 2 and all(type(number) is int for number in pair)
        if not whole or not last < pair[0] < end or not max(1, pair[0]) <= pair[1] <= MOST_STEPS:
            return False
        last, end = pair
    return not value or value[0][0] == 0

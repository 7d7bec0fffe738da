"""How many steps a run has, from which step on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.config.course import MOST_CORRECTIONS, MOST_STEPS, as_course, is_course, steps_at


def test_the_steps_at_a_step() -> None:
    course = ((0, 10), (4, 20), (8, 9))
    assert [steps_at(course, step) for step in range(9)] == [10] * 4 + [20] * 4 + [9]


@pytest.mark.parametrize(
    "course", [(), ((0, 1),), ((0, 424), (170, 385)), ((0, 10), (4, 20), (15, 15)), ((0, MOST_STEPS),)]
)
def test_courses_as_runs_make_them(course: object) -> None:
    assert is_course(course)


@pytest.mark.parametrize(
    "value",
    [
        *(None, 3, "[[0, 1]]", [[0, 1]], ((0, 1), 3), ((0, 1, 2),), ((0, "1"),), ((0, 1.0),), ((False, 1),)),
        ((1, 10),),  # does not begin at the start
        ((0, 0),),
        ((0, MOST_STEPS + 1),),
        ((0, 10), (0, 20)),  # at the same step
        ((0, 10), (5, 4)),  # ends before it begins
        ((0, 10), (10, 20)),  # after its end
        ((0, 10), (8, 20), (6, 12)),
        tuple((step, MOST_STEPS) for step in range(MOST_CORRECTIONS + 1)),
    ],
)
def test_what_is_no_course(value: object) -> None:
    assert not is_course(value)


@given(st.lists(st.tuples(st.integers(), st.integers())) | st.recursive(st.integers(), st.lists))
def test_nothing_in_a_file_breaks_the_check(value: object) -> None:
    course = as_course(value)
    assert is_course(course) in (True, False)
    if is_course(course) and course:
        assert steps_at(course, 10**9) == course[-1][1]

"""The learning rate over a run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.config.course import Course
from mygpt_cli.training.schedule import Rewarm, decay_start, lr_factor, warmup_steps

shapes = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 500),
        "schedule": st.sampled_from(["linear", "cosine", "constant"]),
        "warmup": st.integers(0, 100),
        "decay_fraction": st.floats(0, 1),
        "final_lr": st.floats(0, 1),
    }
)


def test_the_classic_cosine() -> None:
    """Warm-up to the peak, half a cosine to a tenth of it: values from the formula, worked by hand."""
    shape = {"steps": 2000, "schedule": "cosine", "warmup": 100, "decay_fraction": 1.0, "final_lr": 0.1}
    expected = {0: 1 / 101, 99: 100 / 101, 100: 1.0, 1050: 0.55, 575: 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2}
    for step, share in expected.items():
        assert lr_factor(step, **shape) == pytest.approx(share)  # type: ignore[arg-type]


def test_constant_then_linear() -> None:
    shape = {"steps": 100, "schedule": "linear", "warmup": 4, "decay_fraction": 0.5, "final_lr": 0.0}
    shares = [lr_factor(step, **shape) for step in range(100)]  # type: ignore[arg-type]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(shares[4:51]) == {1.0}
    assert shares[75] == pytest.approx(0.5)
    assert shares[99] == pytest.approx(0.02)


@given(shapes)
def test_it_rises_then_falls_between_its_limits(shape: dict[str, object]) -> None:
    steps, warmup = int(str(shape["steps"])), int(str(shape["warmup"]))
    shares = [lr_factor(step, **shape) for step in range(steps)]  # type: ignore[arg-type]
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert shares[:warmup] == sorted(shares[:warmup])
    assert shares[warmup:] == sorted(shares[warmup:], reverse=True)
    if shape["schedule"] == "constant":
        assert set(shares[warmup:]) <= {1.0}


def test_a_run_given_more_steps_rises_in_a_line() -> None:
    """100 steps had ended at nothing; of 100 more, 4 climb to where the schedule of 200 steps is."""
    shape = {"steps": 200, "schedule": "linear", "warmup": 5, "decay_fraction": 0.6, "final_lr": 0.0}
    rewarm = Rewarm(step=100, factor=0.0)
    shares = [lr_factor(step, rewarm=rewarm, **shape) for step in range(100, 200)]  # type: ignore[arg-type]
    assert shares[:5] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 0.8])
    assert shares[5:] == pytest.approx([(200 - step) / 120 for step in range(105, 200)])


@given(shapes, st.floats(0, 1), st.floats(0, 0.999))
def test_a_rise_ends_where_the_schedule_is(shape: dict[str, object], share: float, where: float) -> None:
    steps = int(str(shape["steps"]))
    rewarm = Rewarm(step=int(where * steps), factor=share)
    planned = [lr_factor(step, **shape) for step in range(steps)]  # type: ignore[arg-type]
    shares = [lr_factor(step, rewarm=rewarm, **shape) for step in range(steps)]  # type: ignore[arg-type]
    assert shares[: rewarm.step] == planned[: rewarm.step]
    risen = rewarm.step + warmup_steps(steps - rewarm.step)
    assert shares[risen:] == planned[risen:]
    for before, after in zip(planned, shares, strict=True):
        assert min(before, share) <= after <= before


def test_a_corrected_end_bends_the_fall() -> None:
    """Of 100 steps the last 60 fall. At step 70 half of that is done: the rest takes 10 steps, not 30."""
    shape = {"steps": 80, "schedule": "linear", "warmup": 4, "decay_fraction": 0.6, "final_lr": 0.0}
    course: Course = ((0, 100), (70, 80))
    shares = [lr_factor(step, corrections=course, **shape) for step in range(81)]  # type: ignore[arg-type]
    planned = [lr_factor(step, **(shape | {"steps": 100})) for step in range(71)]  # type: ignore[arg-type]
    assert shares[:71] == planned
    assert shares[70:] == pytest.approx([0.5 - 0.05 * n for n in range(11)])
    # And once more at step 75, a quarter from the end: over 25 steps instead of 5.
    course, shape["steps"] = (*course, (75, 100)), 100
    later = [lr_factor(step, corrections=course, **shape) for step in range(101)]  # type: ignore[arg-type]
    assert later[:76] == shares[:76]
    assert later[75:] == pytest.approx([0.25 - 0.01 * n for n in range(26)])


def test_a_cosine_goes_on_from_where_it_was() -> None:
    shape = {"steps": 80, "schedule": "cosine", "warmup": 0, "decay_fraction": 1.0, "final_lr": 0.1}
    shares = [lr_factor(step, corrections=((0, 100), (60, 80)), **shape) for step in range(81)]  # type: ignore[arg-type]
    expected = {60: 0.6, 65: 0.7, 70: 0.8, 80: 1.0}  # of the way
    for step, done in expected.items():
        assert shares[step] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


@pytest.mark.parametrize(("at", "steps"), [(10, 60), (30, 400), (40, 90), (39, 98)])
def test_before_the_fall_a_correction_is_a_new_plan(at: int, steps: int) -> None:
    """Unless its fall had to have begun already: then it begins now."""
    shape = {"steps": steps, "schedule": "linear", "warmup": 4, "decay_fraction": 0.6, "final_lr": 0.0}
    corrected = [lr_factor(n, corrections=((0, 100), (at, steps)), **shape) for n in range(steps)]  # type: ignore[arg-type]
    if at <= 0.4 * steps:
        assert corrected == [lr_factor(n, **shape) for n in range(steps)]  # type: ignore[arg-type]
    else:
        assert set(corrected[4 : at + 1]) == {1.0}
        assert corrected[at:] == pytest.approx([1 - n / (steps - at) for n in range(steps - at)])


courses = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 300)), max_size=6)


@given(shapes, courses)
def test_however_often_it_is_corrected_the_rate_only_falls(
    shape: dict[str, object], changes: list[tuple[float, int]]
) -> None:
    warmup, decay_fraction = int(str(shape["warmup"])), float(str(shape["decay_fraction"]))
    course = [(0, int(str(shape["steps"])))]
    for where, left in changes:
        last, end = course[-1]
        step = last + 1 + int(where * (end - last - 1))
        if step < end:
            course.append((step, step + left))
    steps = course[-1][1]
    shape = shape | {"steps": steps, "corrections": tuple(course)}
    shares = [lr_factor(step, **shape) for step in range(steps + 1)]  # type: ignore[arg-type]
    assert shares[warmup:] == sorted(shares[warmup:], reverse=True)
    for number, (step, _) in enumerate(course[1:], 1):  # no jump where it is corrected
        before = lr_factor(step, **(shape | {"corrections": tuple(course[:number])}))  # type: ignore[arg-type]
        assert shares[step] == pytest.approx(before)
    if shape["schedule"] != "constant" and decay_start(steps, warmup, decay_fraction) < steps:
        assert shares[steps] == pytest.approx(float(str(shape["final_lr"])), abs=1e-9)

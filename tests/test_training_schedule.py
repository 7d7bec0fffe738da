"""The learning rate over a run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.training.schedule import Rise, lr_share, warmup_steps

shapes = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 500),
        "schedule": st.sampled_from(["linear", "cosine", "constant"]),
        "warmup": st.integers(0, 100),
        "decay_share": st.floats(0, 1),
        "final_lr": st.floats(0, 1),
    }
)


def test_the_classic_cosine() -> None:
    """Warm-up to the peak, half a cosine to a tenth of it: values from the formula, worked by hand."""
    shape = {"steps": 2000, "schedule": "cosine", "warmup": 100, "decay_share": 1.0, "final_lr": 0.1}
    expected = {0: 1 / 101, 99: 100 / 101, 100: 1.0, 1050: 0.55, 575: 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2}
    for step, share in expected.items():
        assert lr_share(step, **shape) == pytest.approx(share)  # type: ignore[arg-type]


def test_constant_then_linear() -> None:
    shape = {"steps": 100, "schedule": "linear", "warmup": 4, "decay_share": 0.5, "final_lr": 0.0}
    shares = [lr_share(step, **shape) for step in range(100)]  # type: ignore[arg-type]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(shares[4:51]) == {1.0}
    assert shares[75] == pytest.approx(0.5)
    assert shares[99] == pytest.approx(0.02)


@given(shapes)
def test_it_rises_then_falls_between_its_limits(shape: dict[str, object]) -> None:
    steps, warmup = int(str(shape["steps"])), int(str(shape["warmup"]))
    shares = [lr_share(step, **shape) for step in range(steps)]  # type: ignore[arg-type]
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert shares[:warmup] == sorted(shares[:warmup])
    assert shares[warmup:] == sorted(shares[warmup:], reverse=True)
    if shape["schedule"] == "constant":
        assert set(shares[warmup:]) <= {1.0}


def test_a_run_given_more_steps_rises_in_a_line() -> None:
    """100 steps had ended at nothing; of 100 more, 4 climb to where the schedule of 200 steps is."""
    shape = {"steps": 200, "schedule": "linear", "warmup": 5, "decay_share": 0.6, "final_lr": 0.0}
    rise = Rise(step=100, share=0.0)
    shares = [lr_share(step, rise=rise, **shape) for step in range(100, 200)]  # type: ignore[arg-type]
    assert shares[:5] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 0.8])
    assert shares[5:] == pytest.approx([(200 - step) / 120 for step in range(105, 200)])


@given(shapes, st.floats(0, 1), st.floats(0, 0.999))
def test_a_rise_ends_where_the_schedule_is(shape: dict[str, object], share: float, where: float) -> None:
    steps = int(str(shape["steps"]))
    rise = Rise(step=int(where * steps), share=share)
    planned = [lr_share(step, **shape) for step in range(steps)]  # type: ignore[arg-type]
    shares = [lr_share(step, rise=rise, **shape) for step in range(steps)]  # type: ignore[arg-type]
    assert shares[: rise.step] == planned[: rise.step]
    risen = rise.step + warmup_steps(steps - rise.step)
    assert shares[risen:] == planned[risen:]
    for before, after in zip(planned, shares, strict=True):
        assert min(before, share) <= after <= before

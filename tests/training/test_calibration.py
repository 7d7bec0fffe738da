"""The temperature of a trained model."""

from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.training.calibration import MOST_PASSES, temperature


def test_a_model_that_has_seen_its_text_once_is_left_alone() -> None:
    """So is one that has seen only a part of it, or nothing."""
    assert temperature(0.0) == temperature(0.3) == temperature(1.0) == 1.0


@given(st.floats(1.0, 1e6), st.floats(1.0, 1e6))
def test_more_passes_never_make_it_surer(one: float, other: float) -> None:
    """The temperature grows from 1 to 1.1."""
    fewer, more = sorted((one, other))
    assert 1.0 <= temperature(fewer) <= temperature(more) <= temperature(MOST_PASSES) == 1.1

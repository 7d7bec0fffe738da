"""Seeds of independent streams."""

from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.randomness import derive


@given(st.integers(0, 2**63 - 1), st.text(max_size=5), st.integers(0, 10**9))
def test_a_seed_is_a_function_of_its_path(seed: int, name: str, step: int) -> None:
    assert derive(seed, name, step) == derive(seed, name, step)
    assert 0 <= derive(seed, name, step) < 2**63


def test_streams_differ() -> None:
    seeds = {derive(seed, name, step) for seed in range(10) for name in ("a", "b") for step in range(10)}
    assert len(seeds) == 200


def test_the_values_never_change() -> None:
    """A saved run must find its random numbers again in any later version."""
    assert derive(1337, "dropout", 0) == 1950837248877778628

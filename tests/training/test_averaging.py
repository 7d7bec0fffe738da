"""The average of the weights against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.training.averaging import WeightAverage


@given(st.floats(0.02, 0.5), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_a_step_counts_by_a_power_of_its_number(fraction: float, steps: int, seed: int) -> None:
    """The weights of the sum, worked out one by one, are all that the average is."""
    values = torch.randn(steps, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    average = WeightAverage({"p": parameter}, fraction)
    shares = torch.zeros(steps, dtype=torch.float64)
    for step, value in enumerate(values, 1):
        parameter.data.copy_(value)
        average.take(step)
        towards = min(1.0, 1.0 / (fraction * step))
        shares *= 1.0 - towards
        shares[step - 1] += towards
    average.show()
    assert torch.allclose(parameter.detach(), shares @ values)
    assert shares.sum() == pytest.approx(1.0)
    later = shares[int(1 / fraction) :]
    assert all(later[1:] >= later[:-1] - 1e-12)


def test_what_is_trained_and_its_average_change_places() -> None:
    """Each is there when it is asked for, as often as it is; a fraction of 0 leaves the weights alone."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    average = WeightAverage({"p": parameter}, 0.5)
    for step, value in enumerate((1.0, 2.0, 4.0), 1):
        parameter.data.fill_(value)
        average.take(step)
    for _ in range(2):
        average.show()
        assert parameter.item() == pytest.approx(2.0 + 2 / 3 * 2.0)
    assert average.state()["p"].item() == 4.0
    for _ in range(2):
        average.hide()
        assert parameter.item() == 4.0
    none = WeightAverage({"p": parameter}, 0.0)
    none.take(1)
    none.show()
    assert parameter.item() == 4.0
    assert none.state() == {}


def test_a_state_of_another_model_is_refused() -> None:
    """By its names and by its shapes."""
    average = WeightAverage({"p": torch.nn.Parameter(torch.zeros(2))}, 0.1)
    with pytest.raises(KeyError):
        average.load_state({})
    with pytest.raises(ValueError, match="another shape"):
        average.load_state({"p": torch.zeros(3)})


def test_a_temperature_divides_the_gain_of_the_last_norm_and_nothing_else() -> None:
    """Only while the average is shown: what is hidden, and what is resumed, is the average itself."""
    gain, weight = (torch.nn.Parameter(torch.full((2,), value)) for value in (3.0, 5.0))
    average = WeightAverage({"norm.weight": gain, "head.weight": weight}, 0.5)
    average.take(1)
    average.show(1.1)
    average.show(1.2)  # it is shown
    assert torch.equal(gain, torch.full((2,), 3.0) / 1.1)
    assert weight.tolist() == [5.0, 5.0]
    later = WeightAverage({"norm.weight": gain, "head.weight": weight}, 0.5)
    later.load_state({name: tensor.clone() for name, tensor in average.state().items()})
    for each in (average, later):
        each.hide()
        assert gain.tolist() == [3.0, 3.0]
        each.show()
        assert gain.tolist() == [3.0, 3.0]
        each.hide()


def test_a_state_without_a_temperature_is_that_of_an_earlier_version() -> None:
    """Its parameters hold the average as it is."""
    gain = torch.nn.Parameter(torch.full((2,), 3.0))
    average = WeightAverage({"norm.weight": gain}, 0.5)
    average.load_state({"norm.weight": torch.full((2,), 4.0)})
    assert gain.tolist() == [4.0, 4.0]
    average.show()
    assert gain.tolist() == [3.0, 3.0]

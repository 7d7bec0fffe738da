"""How a step's work is shared out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.processes import Processes
from mygpt_cli.training.sharing import (
    Outcome,
    add_up,
    from_any,
    micro_batches,
    passes_of,
    share_out,
    worst_outcome,
)


@given(st.integers(1, 8), st.integers(1, 5), st.data())
def test_passes_are_cut_as_one_process_takes_them(size: int, passes: int, data: st.DataObject) -> None:
    total = size * passes
    count = data.draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
    each, seen = total // count, []
    counted = passes_of(total, size, count)
    for rank in range(count):
        done = 0
        mine = list(micro_batches(total, size, slice(rank * each, (rank + 1) * each)))
        assert counted[rank] == len(mine)
        for number, rows, own in mine:
            assert own.start == done
            assert 0 <= rows.start < rows.stop <= size
            seen += [number * size + row for row in range(size)[rows]]
            done = own.stop
            assert own.stop - own.start == rows.stop - rows.start
        assert done == each
    assert seen == list(range(total))


@given(st.lists(st.integers(1, 1000), max_size=30), st.integers(1, 8))
def test_no_process_has_much_more_to_do(costs: list[int], count: int) -> None:
    owners = share_out(costs, count)
    loads = np.bincount(owners, weights=costs, minlength=count) if costs else np.zeros(count)
    assert len(loads) == count
    assert loads.max() - loads.min() <= max(costs, default=0)


def test_one_process_keeps_its_gradients() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = gradient = torch.ones(2)
    loss = torch.tensor(3.0)
    assert add_up(Processes(), [parameter], loss) is loss
    assert parameter.grad is gradient


def test_what_one_process_has_is_its_own() -> None:
    assert [from_any(Processes(), value) for value in ("", "a name")] == ["", "a name"]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (None, Outcome.FINE),
        (RuntimeError("could not create a primitive"), Outcome.PERHAPS_NO_MEMORY),
        (MemoryError(), Outcome.NO_MEMORY),
        (RuntimeError("no such luck"), Outcome.FAILED),
    ],
)
def test_how_an_attempt_ended(fault: Exception | None, outcome: Outcome) -> None:
    assert worst_outcome(Processes(), fault) is outcome

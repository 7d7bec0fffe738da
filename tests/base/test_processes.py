"""One process alone, and what each of several takes of a step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mygpt_cli.base.errors import UsageError
from mygpt_cli.base.processes import Processes


class One(Processes):
    """One of several, which never speaks to the others."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count


@given(st.integers(1, 9), st.integers(1, 9))
def test_each_sequence_is_taken_once(count: int, each: int) -> None:
    taken = [n for rank in range(count) for n in range(count * each)[One(rank, count).rows(count * each)]]
    assert taken == list(range(count * each))


def test_what_cannot_be_shared_out_evenly_is_refused() -> None:
    with pytest.raises(UsageError, match="3 processes cannot share out evenly the 8 sequences") as fault:
        One(0, 3).rows(8)
    assert fault.value.hint == (
        "the number of processes can be one of 1, 2, 4, 8; a new run can take --batch-size 9"
    )


def test_one_alone_asks_nobody() -> None:
    alone = Processes()
    with alone.patiently():
        alone.stepped(0.1)
        assert alone.most(1, -2.5) == [1, -2.5]
    assert alone.of(0, "it") == "it"
    assert alone.rows(7) == slice(0, 7)
    assert alone.speaks()
    alone.check_same({"--lr": 1})

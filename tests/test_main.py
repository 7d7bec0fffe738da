"""What happens before the command line is read."""

from mygpt_cli.__main__ import BRIEFLY, wait_briefly


def test_threads_wait_briefly_unless_told_otherwise() -> None:
    environment: dict[str, str] = {}
    wait_briefly(environment)
    assert environment == {"GOMP_SPINCOUNT": BRIEFLY}
    for said in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5"}):
        told = dict(said)
        wait_briefly(told)
        assert told == said

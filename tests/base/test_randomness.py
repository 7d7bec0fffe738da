"""Seeds of independent streams."""

import pytest

from mygpt_cli.base.randomness import derive


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        ((1337, "dropout", 0), "36258848a3ebad88"),
        ((0,), "5feceb66ffc86f38"),
        ((2**63 - 1, "weights"), "46dde48d30ead115"),
        ((7, "masks", 10**9), "3ac55e8e5f32724e"),
    ],
)
def test_a_seed_is_the_front_of_a_hash_of_its_path(
    path: tuple[int, *tuple[int | str, ...]], digest: str
) -> None:
    """`printf %s 1337/dropout/0 | sha256sum` gives the digest; of its first 64 bits, 63 are the seed."""
    assert derive(*path) == int(digest, 16) // 2


def test_streams_differ() -> None:
    seeds = {derive(seed, name, step) for seed in range(10) for name in ("a", "b") for step in range(10)}
    assert len(seeds) == 200

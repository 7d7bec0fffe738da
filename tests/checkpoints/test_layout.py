"""What is not as it was saved is refused, and named."""

from pathlib import Path

import pytest

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.checkpoints import checkpoint


def test_a_damaged_file_is_named(saved: Path) -> None:
    for path in sorted(saved.iterdir()):
        whole = path.read_bytes()
        for damage in (whole[:-1], b"", bytes([whole[0] ^ 1]) + whole[1:]):
            path.write_bytes(damage)
            with pytest.raises(CheckpointError, match=r"damaged|JSON|manifest"):
                checkpoint.load(saved)
        path.unlink()
        with pytest.raises(CheckpointError, match=r"missing|no checkpoint"):
            checkpoint.load(saved)
        path.write_bytes(whole)
    assert checkpoint.load(saved).state == {"step": 1}

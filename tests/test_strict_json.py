"""JSON that cannot be trusted."""

from pathlib import Path

import pytest

from mygpt_cli.errors import CheckpointError
from mygpt_cli.strict_json import read_json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"[1]", "must hold a JSON object"),
        (b'{"a": 1, "a": 2}', "appears twice"),
        (b'{"b": {"a": 1, "a": 2}}', "appears twice"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'{"a":' * 100_000, "not valid JSON"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "not valid JSON"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_json(path)


def test_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 12345}')
    assert read_json(path, limit=12) == {"a": 12345}
    with pytest.raises(CheckpointError, match="larger"):
        read_json(path, limit=11)
    with pytest.raises(CheckpointError, match="cannot read"):
        read_json(tmp_path / "missing.json")

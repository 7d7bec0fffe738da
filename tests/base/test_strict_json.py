"""JSON that cannot be trusted."""

import subprocess
import sys
from pathlib import Path

import pytest

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.strict_json import COSTS, MEMORY, read_json


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
        (b'{"a": [' + b"[]," * 2_000_000 + b"[]]}", "more values"),
        (b'{"a": {' + b",".join(b'"%x":0' % n for n in range(900_000)) + b"}}", "more values"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_json(path)


def test_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 12345}', encoding="utf-8")
    assert read_json(path, limit=12) == {"a": 12345}
    with pytest.raises(CheckpointError, match="larger"):
        read_json(path, limit=11)
    with pytest.raises(CheckpointError, match="cannot read"):
        read_json(tmp_path / "missing.json")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    "part", ['"a%d": [],', '"a%d": 1.5,', '"a%d": {"a": {}},', '"a%d": ["%d", "x"],', '"😀%d": "",']
)
def test_memory_is_bounded(part: str, tmp_path: Path) -> None:
    """Just below the bound, values take no more than 200 MB beyond the file."""
    entry = sum(cost * part.encode().count(mark) for mark, cost in COSTS.items()) + 4 * len(part)
    count = int(0.9 * MEMORY / entry)
    text = "{" + "".join(part.replace("%d", str(n)) for n in range(count)).rstrip(",") + "}"
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    program = (
        "import sys, pathlib; from mygpt_cli.base.strict_json import read_json\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) * 1024\n"
        "before = peak(); read_json(pathlib.Path(sys.argv[1])); print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "x.json"],
        capture_output=True,
        check=True,
        text=True,
        encoding="utf-8",
    )
    assert int(done.stdout) < MEMORY + len(text.encode())

"""What tests of training share."""

from pathlib import Path

import pytest

from tests.helpers.processes import dataset_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a text in it, and its tokens."""
    text = "".join(f"{n} times {n} is {n * n}.\n" for n in range(200))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    dataset_in(tmp_path)
    return tmp_path

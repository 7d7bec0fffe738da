"""Files that are written whole or not at all."""

from pathlib import Path

import pytest

from mygpt_cli.base.errors import CheckpointError
from mygpt_cli.base.files import check_fetched, replaced, write_whole


def test_a_file_is_replaced_once_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replaced(path) as new:
        new.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", [OSError, KeyboardInterrupt])
def test_what_ends_the_writing_leaves_the_file_as_it_was(tmp_path: Path, fault: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(fault), replaced(path) as new:
        new.write_bytes(b"new")
        raise fault
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_an_earlier_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine", encoding="utf-8")
    (tmp_path / "file.new").symlink_to(tmp_path / "elsewhere")
    write_whole(tmp_path / "file", ["a\n", "b\n"])
    assert (tmp_path / "file").read_bytes() == b"a\nb\n"
    assert (tmp_path / "elsewhere").read_text(encoding="utf-8") == "mine"


def test_a_file_that_git_has_not_fetched_is_named_with_what_fetches_it(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"
    with pytest.raises(CheckpointError, match="only a pointer of Git LFS") as fault:
        check_fetched(tmp_path / "file", pointer)
    assert fault.value.hint == f"`git lfs pull` in {tmp_path} fetches it"
    check_fetched(tmp_path / "file", pointer[1:])

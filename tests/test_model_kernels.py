"""Compiling the kernels: kept once compiled, and clear about what is missing."""

from pathlib import Path

import pytest
import torch

from mygpt_cli.errors import ResourceError
from mygpt_cli.model.kernels import Kernels, compile_kernels


def test_it_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_kernels(torch.float32, tmp_path)
    (library,) = tmp_path.iterdir()
    written = library.stat().st_mtime_ns
    assert isinstance(compile_kernels(torch.float32, tmp_path), Kernels)
    assert library.stat().st_mtime_ns == written
    compile_kernels(torch.bfloat16, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_function_reads_and_writes_tensors(tmp_path: Path) -> None:
    kernels = compile_kernels(torch.float32, tmp_path)
    x = torch.tensor([[-1.0, 0.0, 2.0]])
    kernels("activate", x, x, 1, 3)
    assert x.tolist() == [[0.0, 0.0, 4.0]]


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="no C compiler"):
        compile_kernels(torch.float32, tmp_path)


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_a_compiler_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(ResourceError, match=r"compiler failed|no C compiler 'no-such"):
        compile_kernels(torch.float32, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_library_is_compiled_again(tmp_path: Path) -> None:
    compile_kernels(torch.float32, tmp_path / "one")
    (library,) = (tmp_path / "one").iterdir()
    other = tmp_path / "other" / library.name
    other.parent.mkdir()
    other.write_bytes(b"not a library")
    compile_kernels(torch.float32, other.parent)
    assert other.stat().st_size == library.stat().st_size

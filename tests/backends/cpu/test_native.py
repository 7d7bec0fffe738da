"""How C code is compiled: by which compiler, for which instructions."""

import ctypes
import shutil
import stat
from pathlib import Path

import pytest

from mygpt_cli.backends.cpu import native
from mygpt_cli.backends.cpu.native import Kernel, c_compiler, compile_library, instructions
from mygpt_cli.base.errors import ResourceError, UsageError
from tests.conftest import Command

CLANG = next(filter(shutil.which, ("clang", "clang-19", "clang-14")), "")


def wrapper(path: Path, log: Path) -> Path:
    """Write a program that notes its arguments and runs them, as ccache does."""
    path.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\nexec "$@"\n', encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize("given", ["gcc -O2", "  gcc   '-O2' "])
def test_cc_is_split_as_a_shell_splits_it(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("CC", given)
    assert c_compiler() == ["gcc", "-O2"]


def test_a_path_with_spaces_is_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = wrapper(tmp_path / "my cc", tmp_path / "log")
    monkeypatch.setenv("CC", str(program))
    assert c_compiler() == [str(program)]


def test_a_wrapper_of_a_compiler_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = wrapper(tmp_path / "ccache", tmp_path / "log")
    monkeypatch.setenv("CC", f"{program} cc -DMINE")
    library = compile_library("sample", [], tmp_path / "kernels")
    assert library["sample"]
    assert "cc -DMINE" in (tmp_path / "log").read_text(encoding="utf-8")


@pytest.mark.skipif(not CLANG, reason="clang is not installed")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_clang_compiles_what_training_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setenv("CC", CLANG)
    assert compile_library("kernels", native.training_options(dtype), tmp_path)["attend"]


@pytest.mark.parametrize("name", native.INSTRUCTIONS)
def test_code_for_fewer_instructions_does_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(native.VARIABLE, name)
    try:
        instructions()
    except UsageError as lack:
        pytest.skip(lack.message)
    kernel = Kernel(
        compile_library("kernels", native.training_options("float32"), tmp_path), "activate", "tttii"
    )
    numbers, results = (ctypes.c_float * 3)(-1, 0, 2), (ctypes.c_float * 3)()
    kernel(numbers, None, results, 1, 3)
    assert list(results) == [0.0, 0.0, 4.0]


def test_each_choice_of_instructions_has_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("native", "generic"):
        monkeypatch.setenv(native.VARIABLE, name)
        compile_library("sample", [], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("one", "other"), [("flags\t: avx2", "flags\t: avx512f"), ("CPU part\t: 1", "CPU part\t: 2")]
)
def test_processors_are_told_apart(one: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for line in (one, other):
        monkeypatch.setattr(Path, "read_text", lambda path, line=line, **how: f"processor\t: 0\n{line}\n")
        monkeypatch.setattr(Path, "exists", lambda path: True)
        told.append(native._processor())
    assert told[0] != told[1]


def test_instructions_that_the_processor_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_processor", lambda: "x86_64\nflags : fpu sse2 avx2")
    monkeypatch.setattr(native, "INSTRUCTIONS", {"native": [], "avx512": ["-march=x86-64-v4"]})
    monkeypatch.setenv(native.VARIABLE, "avx512")
    with pytest.raises(UsageError, match="lacks the instructions of MYGPT_CPU=avx512"):
        instructions()


def test_no_compiled_code_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "none")
    with pytest.raises(ResourceError, match="MYGPT_CPU=none"):
        compile_library("sample", [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_misspelt_choice_is_an_error_of_the_command(mygpt: Command, cycle_run: Path) -> None:
    done = mygpt("sample", "--checkpoint", cycle_run, env={"MYGPT_CPU": "nativ"})
    assert done.returncode == 2
    assert b"MYGPT_CPU cannot be 'nativ' (did you mean 'native'?)" in done.stderr

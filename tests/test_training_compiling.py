"""Compiled or not: proved by a step, said in a line, required when asked for."""

from pathlib import Path

import pytest
import torch

from mygpt_cli.errors import DivergedError, ResourceError
from mygpt_cli.training.compiling import Compilation, compile_training
from tests.conftest import Command
from tests.test_model_gpt import random_model

CPU = torch.device("cpu")


def test_on_a_cpu_models_get_kernels(tmp_path: Path) -> None:
    compilation = compile_training("auto", CPU, torch.float32, tmp_path)
    model = random_model(arch="nanochat")
    compilation.apply(model)
    assert model.kernels is compilation.kernels is not None
    assert compilation.proved(lambda: None) is compilation


def test_off_compiles_nothing(tmp_path: Path) -> None:
    assert compile_training("off", CPU, torch.float32, tmp_path) == Compilation()
    assert not list(tmp_path.iterdir())


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    compilation = compile_training("auto", CPU, torch.float32, tmp_path)
    assert compilation.kernels is None
    said = "training is not compiled, and slower: there is no C compiler 'no-such-compiler'"
    assert compilation.note == said
    with pytest.raises(ResourceError):
        compile_training("on", CPU, torch.float32, tmp_path)


def _fail() -> None:
    raise RuntimeError("the compiler has a bug\nand much to say about it")


def test_a_step_that_fails_is_said_in_one_line() -> None:
    after = Compilation(graph=True).proved(_fail)
    assert not after.graph
    assert after.note == (
        "training is not compiled, and slower: a compiled step failed: the compiler has a bug"
    )
    with pytest.raises(ResourceError, match="the compiler has a bug"):
        Compilation(graph=True, required=True).proved(_fail)


def test_faults_of_training_are_not_the_compilers() -> None:
    def diverge() -> None:
        raise DivergedError("no", "yes")

    with pytest.raises(DivergedError):
        Compilation(graph=True).proved(diverge)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, as it loads its compiler
def test_a_graph_gives_the_same_loss() -> None:
    model = random_model(arch="gpt2")
    ids = torch.arange(8)[None]
    expected = model.loss(ids, ids)
    Compilation(graph=True).apply(model)
    assert model._compiled_call_impl is not None
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(model.loss(ids, ids), expected)


@pytest.mark.parametrize("choice", ["on", "off"])
def test_through_the_command(mygpt: Command, tmp_path: Path, choice: str) -> None:
    (tmp_path / "text.txt").write_text("one two three four five six seven\n" * 60)
    tiny = ("--layers", 1, "--width", 16, "--context", 16, "--batch-size", 4, "--steps", 3)
    done = mygpt(
        "train", "text.txt", *tiny, "--compile", choice, cwd=tmp_path, env={"CC": "no-such-compiler"}
    )
    if choice == "off":
        assert done.returncode == 0
        assert b"compile" not in done.stderr
    else:
        assert done.returncode == 5
        assert b"compiler" in done.stderr

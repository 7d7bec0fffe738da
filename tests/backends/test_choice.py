"""Compiled or not: proved by a step, said in a line, required when asked for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mygpt_cli.backends.choice import Compilation, check_compiler, compile_training
from mygpt_cli.backends.cpu.training_pass import TrainingPass
from mygpt_cli.base.errors import DivergedError, ResourceError, UsageError
from mygpt_cli.model.masks import DropoutMasks
from tests.conftest import Command
from tests.helpers.models import random_model

CPU = torch.device("cpu")


def test_on_a_cpu_models_get_kernels(tmp_path: Path) -> None:
    compilation = compile_training("auto", CPU, torch.float32, tmp_path)
    model = random_model(arch="nanochat")
    backend = compilation.backend(model)
    assert isinstance(backend, TrainingPass)
    assert backend.kernels is compilation.kernels
    assert compilation.proved(lambda: None) is compilation


def test_off_compiles_nothing(tmp_path: Path) -> None:
    assert compile_training("off", CPU, torch.float32, tmp_path) == Compilation()
    assert not list(tmp_path.iterdir())


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    compilation = compile_training("auto", CPU, torch.float32, tmp_path)
    assert compilation.kernels is None
    said = "training without compiled code, which is slower: there is no C compiler 'no-such-compiler'"
    assert compilation.note == said
    with pytest.raises(ResourceError):
        compile_training("on", CPU, torch.float32, tmp_path)


def test_what_cannot_be_compiled_is_said_before_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    check_compiler("on", CPU)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    check_compiler("auto", CPU)
    with pytest.raises(ResourceError, match="there is no C compiler"):
        check_compiler("on", CPU)
    monkeypatch.setenv("MYGPT_CPU", "nativ")
    with pytest.raises(UsageError, match="did you mean 'native'"):
        check_compiler("auto", CPU)
    check_compiler("off", CPU)
    check_compiler("on", torch.device("cuda"))


def _fail() -> None:
    raise RuntimeError("the compiler has a bug\nand much to say about it")


def test_a_step_that_fails_is_said_in_one_line() -> None:
    after = Compilation(graph=True).proved(_fail)
    assert not after.graph
    assert after.note == (
        "training without compiled code, which is slower: a compiled step failed: the compiler has a bug"
    )
    with pytest.raises(ResourceError, match="the compiler has a bug"):
        Compilation(graph=True, required=True).proved(_fail)


def test_faults_of_training_are_not_the_compilers() -> None:
    def diverge() -> None:
        raise DivergedError("no", "yes")

    with pytest.raises(DivergedError):
        Compilation(graph=True).proved(diverge)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, as it loads its compiler
def test_a_step_is_one_graph_and_gives_the_same_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, whatever is drawn, and for models alike; another shape is another, validation is none."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        assert all(type(size) is int for tensor in inputs for size in tensor.shape)
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    masks = DropoutMasks(0.2, seed=1, dtype=torch.float32, device=CPU)
    plain, *models = (random_model(arch="nanochat", layers=3) for _ in range(4))
    for model, length in zip(models, (12, 12, 9), strict=True):
        compiled = Compilation(graph=True).backend(model)
        ids = torch.arange(2 * length).view(2, length)
        for step in range(3):
            masks.start(step)
            expected = plain.loss(ids, ids, masks)
            masks.start(step)
            torch.testing.assert_close(compiled.accumulate_gradients(ids, ids, masks), expected.detach())
        fewer = ids[:1, :5]
        with torch.no_grad():
            assert torch.equal(compiled.loss(fewer, fewer), plain.loss(fewer, fewer))
    assert len(graphs) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_through_the_command(mygpt: Command, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one two three four five six seven\n" * 600, encoding="utf-8")
    tiny = ("--layers", 2, "--width", 64, "--context", 32, "--batch-size", 4, "--steps", 30, "--dropout", 0.1)
    done = mygpt("train", "text.txt", *tiny, "--compile", "on", "--device", "cuda", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert b"arning" not in done.stderr


@pytest.mark.parametrize("choice", ["on", "off"])
def test_through_the_command(mygpt: Command, tmp_path: Path, choice: str) -> None:
    (tmp_path / "text.txt").write_text("one two three four five six seven\n" * 60, encoding="utf-8")
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

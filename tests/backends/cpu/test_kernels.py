"""Compiling the kernels: kept once compiled, and clear about what is missing."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mygpt_cli.backends.cpu.kernels import Kernels, compile_kernels
from mygpt_cli.base.errors import ResourceError


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return compile_kernels(torch.float32, tmp_path_factory.mktemp("kernels"))


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
    x, y = torch.tensor([[-1.0, 0.0, 2.0]]), torch.empty(1, 3)
    kernels("activate", x, None, y, 1, 3)
    assert y.tolist() == [[0.0, 0.0, 4.0]]


@settings(max_examples=60)
@given(
    m=st.integers(1, 70),
    k=st.integers(1, 200),
    n=st.one_of(st.integers(1, 70), st.integers(500, 600)),
    turned=st.tuples(st.booleans(), st.booleans()),
    scales=st.tuples(st.sampled_from([-12, 0, 15]), st.sampled_from([-12, 0, 15])),
    seed=st.integers(0, 1000),
)
def test_products_are_as_exact_as_float32(
    m: int, k: int, n: int, turned: tuple[bool, bool], scales: tuple[int, int], seed: int, float32: Kernels
) -> None:
    rng = torch.Generator().manual_seed(seed)
    a, b = (
        torch.randn(m, k, generator=rng) * 10 ** scales[0],
        torch.randn(k, n, generator=rng) * 10 ** scales[1],
    )
    a, b = (x.T.contiguous().T if turn else x for x, turn in zip((a, b), turned, strict=True))
    error = (float32.product(a, b) - a.double() @ b.double()).abs()
    assert (error <= 1e-6 * (a.abs().double() @ b.abs().double())).all()


@pytest.fixture(scope="module")
def bfloat16(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return compile_kernels(torch.bfloat16, tmp_path_factory.mktemp("kernels"))


@settings(max_examples=60)
@given(
    rows=st.one_of(st.integers(1, 100), st.integers(500, 900)),
    width=st.integers(1, 100),
    wide=st.integers(1, 200),
    threads=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_layers_of_small_whole_numbers_are_exact(
    rows: int, width: int, wide: int, threads: int, seed: int, bfloat16: Kernels
) -> None:
    if not bfloat16.takes(torch.empty(1, 1)):
        pytest.skip("this processor has no tiles")
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(-1, 2, shape, generator=rng).bfloat16()

    x, grad, up, down = draw(rows, width), draw(rows, width), draw(wide, width), draw(width, wide)
    hidden, relu = x.float() @ up.float().T, 0
    active, slopes = hidden.relu(), grad.float() @ down.float() * (hidden > 0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        forward = bfloat16.linear(x, up)
        backward = bfloat16.linear_backward(grad, active.bfloat16(), down)
        whole = bfloat16.mlp(x, up, down, relu)
        whole_backward = bfloat16.mlp_backward(grad, x, up, down, relu)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(forward, hidden.bfloat16())
    of_down = grad.float().T @ active
    for ours, exact in zip(backward, ((grad.float() @ down.float()).bfloat16(), of_down), strict=True):
        assert torch.equal(ours, exact)
    assert torch.equal(whole, (active @ down.float().T).bfloat16())
    exacts = ((slopes @ up.float()).bfloat16(), slopes.T @ x.float(), of_down)
    for ours, exact in zip(whole_backward, exacts, strict=True):
        assert torch.equal(ours, exact)


def test_products_keep_what_is_not_finite(float32: Kernels) -> None:
    a, b = torch.ones(40, 50), torch.ones(50, 60)
    a[3, 7], b[11, 13] = math.inf, math.nan
    finite = float32.product(a, b).isfinite()
    assert not finite[3].any()
    assert not finite[:, 13].any()
    assert finite.sum() == 39 * 59


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

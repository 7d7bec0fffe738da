"""Devices and types."""

import pytest
import torch

from mygpt_cli.base import devices as device
from mygpt_cli.base.devices import available_memory, peak_memory, pick_device, pick_dtype, total_memory
from mygpt_cli.base.errors import UsageError


@pytest.mark.parametrize(
    ("cuda", "mps", "taken"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, taken: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert pick_device("auto") == torch.device(taken)
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("missing", ["cuda", "mps"])
def test_a_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(UsageError, match=f"no {missing} device") as fault:
        pick_device(missing)
    assert fault.value.hint == "it has: cpu"


def test_types() -> None:
    cpu = torch.device("cpu")
    assert pick_dtype("float32", cpu) == torch.float32
    assert pick_dtype("bfloat16", cpu) == torch.bfloat16
    assert pick_dtype("auto", torch.device("mps")) == torch.float32


@pytest.mark.parametrize(("seconds", "taken"), [(0.7, torch.bfloat16), (0.9, torch.float32)])
def test_auto_takes_the_faster_type(
    monkeypatch: pytest.MonkeyPatch, seconds: float, taken: torch.dtype
) -> None:
    times = {torch.float32: 1.0, torch.bfloat16: seconds}
    monkeypatch.setattr(device, "_product_seconds", lambda dtype, **_: times[dtype])
    assert pick_dtype("auto", torch.device("cpu")) == taken


def test_memory_is_measured() -> None:
    assert peak_memory(torch.device("cpu")) > 50_000_000


@pytest.mark.parametrize(("slower", "tried"), [(50.0, 64), (0.5, 1024), (0.95, 1024)])
def test_a_type_that_is_hopeless_is_not_measured_at_length(
    slower: float, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = {torch.bfloat16: 0, torch.float32: 0}

    def seconds(dtype: torch.dtype, rows: int = 1024, tries: int = 6) -> float:
        largest[dtype] = max(largest[dtype], rows)
        return rows * (slower if dtype == torch.bfloat16 else 1.0)

    monkeypatch.setattr("mygpt_cli.base.devices._product_seconds", seconds)
    expected = torch.bfloat16 if slower < 0.8 else torch.float32
    assert pick_dtype("auto", torch.device("cpu")) == expected
    assert largest[torch.bfloat16] == tried


def test_memory_that_is_free_is_a_part_of_all() -> None:
    assert 2**20 < available_memory() <= total_memory(torch.device("cpu"))


def test_all_memory_is_free_where_nothing_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: "MemTotal: 5 kB\n")
    assert available_memory() == total_memory(torch.device("cpu"))

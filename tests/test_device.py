"""Devices and types."""

import pytest
import torch

from mygpt_cli.device import peak_memory, pick_device, pick_dtype
from mygpt_cli.errors import UsageError


def test_auto_takes_what_is_there() -> None:
    there = torch.cuda.is_available(), torch.backends.mps.is_available()
    assert pick_device("auto").type == ("cuda" if there[0] else "mps" if there[1] else "cpu")
    assert pick_device("cpu").type == "cpu"


def test_a_missing_device_is_refused() -> None:
    missing = next(
        (name for name in ("cuda", "mps") if not getattr(torch.backends, name).is_built()), None
    ) or ("mps" if not torch.backends.mps.is_available() else "cuda")
    with pytest.raises(UsageError, match=f"no {missing} device") as fault:
        pick_device(missing)
    assert "cpu" in fault.value.hint


def test_types() -> None:
    cpu = torch.device("cpu")
    assert pick_dtype("float32", cpu) == torch.float32
    assert pick_dtype("bfloat16", cpu) == torch.bfloat16
    assert pick_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    assert pick_dtype("auto", torch.device("mps")) == torch.float32


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

    monkeypatch.setattr("mygpt_cli.device._product_seconds", seconds)
    expected = torch.bfloat16 if slower < 0.8 else torch.float32
    assert pick_dtype("auto", torch.device("cpu")) == expected
    assert largest[torch.bfloat16] == tried

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

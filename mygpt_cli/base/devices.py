"""Which device to compute on, and in which type its matrix products are fastest."""

import os
import time
from contextlib import suppress
from pathlib import Path

import torch

from mygpt_cli.base.errors import UsageError, did_you_mean


def pick_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `mps`; raises UsageError for one that is not there."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name not in ("auto", *present):
        raise UsageError(
            f"there is no device '{name}'{did_you_mean(name, present)}", "use one of: auto, cpu, cuda, mps"
        )
    if name == "auto":
        name = next(device for device, there in present.items() if there)
    if not present[name]:
        there = ", ".join(device for device, there in present.items() if there)
        raise UsageError(f"this machine has no {name} device that torch can use", f"it has: {there}")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the type for `auto`, `float32` or `bfloat16`; `auto` takes the faster."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    if device.type == "mps":
        return torch.float32
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that work on other processors does not disturb it
    # Where bfloat16 is emulated a product takes a second, of which a budget of some has none to spare.
    brief = {dtype: _product_seconds(dtype, rows=64, tries=2) for dtype in (torch.bfloat16, torch.float32)}
    faster = brief[torch.bfloat16] < 3 * brief[torch.float32] and (
        _product_seconds(torch.bfloat16) < 0.8 * _product_seconds(torch.float32)
    )
    torch.set_num_threads(threads)
    return torch.bfloat16 if faster else torch.float32


def why_dtype(dtype: torch.dtype, device: torch.device) -> str:
    """Say why `auto` takes this type on this device."""
    if device.type == "mps":
        return "the safe choice on this device"
    return "faster than float32 here" if dtype == torch.bfloat16 else "bfloat16 is no faster here"


def _product_seconds(dtype: torch.dtype, rows: int = 1024, tries: int = 6) -> float:
    """Time the best of some matrix products on the CPU, by default of a training step's size."""
    a, b = torch.ones(rows, 256, dtype=dtype), torch.ones(256, 1024, dtype=dtype)
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return best


def cores() -> int:
    """Return the number of processor cores that this process may use; one that runs two threads is one."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
    siblings = Path("/sys/devices/system/cpu")
    try:
        about = [siblings / f"cpu{n}/topology/thread_siblings_list" for n in allowed]
        return len({path.read_text(encoding="ascii") for path in about})
    except OSError:
        return len(allowed)


def peak_memory(device: torch.device) -> int:
    """Return the most memory used so far in bytes: of the GPU, or of this process; 0 where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def total_memory(device: torch.device) -> int:
    """Return the memory of the GPU, or of this machine, in bytes; a very large number where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 2**62


def available_memory() -> int:
    """Return the bytes that this machine can still give, without swapping where that is known."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return total_memory(torch.device("cpu"))


def keep_freed_memory() -> None:
    """Let the C library keep the memory that a training step frees, since the next step wants it again.

    glibc returns large blocks to the system and asks for them anew, page by page: a tenth of a step's time.
    The first gigabyte is kept in large pages where the system has them, whose addresses are looked up faster:
    up to a tenth more. Elsewhere this does nothing.
    """
    import ctypes
    import mmap
    import sys

    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    library.mallopt(trim_threshold, 2**31 - 1)
    library.mallopt(top_pad, 64 * 2**20)
    library.mallopt(mmap_max, 0)
    size, page = 2**30, 2 * 2**20
    library.malloc.restype = ctypes.c_void_p
    # Never touched here, so that it takes no memory; once freed it is where blocks come from.
    if hasattr(mmap, "MADV_HUGEPAGE") and (start := library.malloc(ctypes.c_size_t(size))):
        first = -(-start // page) * page
        library.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size - page), mmap.MADV_HUGEPAGE)
        library.free(ctypes.c_void_p(start))

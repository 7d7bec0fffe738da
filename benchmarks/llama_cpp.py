"""Tokens per second of llama.cpp's `llama-bench`, where it and the Python package `gguf` are installed."""

import json
import os
import shutil
import statistics
import subprocess
from importlib.util import find_spec
from pathlib import Path

import torch


def find(named: str | None) -> str | None:
    """Return the command: the one named, that of LLAMA_BENCH, or the one on the PATH; or None, and say so."""
    command = shutil.which(named or os.environ.get("LLAMA_BENCH", "llama-bench"))
    if command and find_spec("gguf"):
        return command
    print("llama.cpp is left out: it takes llama-bench (see --llama-bench) and `pip install gguf`")
    return None


def rate(command: str, path: Path, tokens: int, repeats: int) -> float:
    """Return the tokens per second of one sequence, the median of some runs, on as many threads as torch."""
    options = {"-m": path, "-p": 0, "-n": tokens, "-t": torch.get_num_threads(), "-ngl": 0, "-r": repeats}
    words = [str(word) for option in options.items() for word in option]
    done = subprocess.run(
        [command, *words, "-o", "json"], check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    rates: list[float] = json.loads(done.stdout)[0]["samples_ts"]
    return statistics.median(rates)

"""Speed of the C code by compiler and instructions, in alternating turns of one run.

    python -m benchmarks.machines.compilers gcc-12 gcc-11 clang-19 clang-14
    python -m benchmarks.machines.compilers gcc --cpu native --cpu avx512 --cpu avx2

Each is timed on a training step of the default model (4 layers of 192, 2,048 tokens) and on a token of
generation (the same model, bfloat16 weights), on torch's number of threads. The best of many turns counts.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mygpt_cli.backends.cpu.decoder import WEIGHTS, CPUDecoder
from mygpt_cli.backends.cpu.kernels import compile_kernels
from mygpt_cli.backends.cpu.native import VARIABLE, compile_library
from mygpt_cli.backends.cpu.training_pass import TrainingPass
from mygpt_cli.base.devices import keep_freed_memory
from mygpt_cli.base.errors import ResourceError
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.training.optimizer import Muon

TURNS = 40


def timers(compiler: str, cpu: str, dtype: torch.dtype, folder: Path) -> dict[str, Callable[[], float]]:
    """Return what takes a step of each kind and says how many seconds that took."""
    os.environ["CC"], os.environ[VARIABLE] = compiler, cpu
    config = configure("nanochat", vocab_size=1024, layers=4, heads=3, width=192, context=256)
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(1))
    model.compute_dtype = dtype
    backend = TrainingPass(model, compile_kernels(dtype, folder))
    inside = {name: p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    muon = Muon(inside, config, dtype)
    ids = torch.randint(0, 1024, (8, 257))
    writer = GPT(config)
    writer.load_state_dict(model.state_dict())
    decoder = CPUDecoder(writer, "bfloat16", compile_library("decode", WEIGHTS["bfloat16"], folder))

    def train() -> float:
        begin = time.perf_counter()
        for parameter in model.parameters():
            parameter.grad = None
        backend.accumulate_gradients(ids[:, :-1], ids[:, 1:])
        muon.step(1e-4, 0.0, backend.muon)
        return time.perf_counter() - begin

    def generate() -> float:
        cache = writer.new_cache(1)
        begin = time.perf_counter()
        for token in range(100):
            decoder.decode([token], cache)
        return (time.perf_counter() - begin) / 100

    return {"a training step": train, "a token": generate}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("compilers", nargs="+", help="commands, such as gcc-12 or clang-19")
    parser.add_argument("--cpu", action="append", help="values of MYGPT_CPU; native by default")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    keep_freed_memory()
    ways = {}
    with TemporaryDirectory() as folder:
        for compiler in arguments.compilers:
            for cpu in arguments.cpu or ["native"]:
                try:
                    dtype = getattr(torch, arguments.dtype)
                    ways[compiler, cpu] = timers(compiler, cpu, dtype, Path(folder))
                except ResourceError as fault:
                    print(f"{compiler}, {cpu}: {fault.message}")
        best: dict[tuple[str, str], dict[str, float]] = {way: {} for way in ways}
        for _ in range(TURNS):
            for way, timed in ways.items():
                for kind, timer in timed.items():
                    best[way][kind] = min(best[way].get(kind, 1e9), timer())
    print(f"best of {TURNS} turns, {torch.get_num_threads()} threads, {arguments.dtype}; beside the first\n")
    print("| compiler | MYGPT_CPU | a training step | | a token | |\n|---|---|---|---|---|---|")
    first = next(iter(best.values()))
    for (compiler, cpu), kinds in best.items():
        cells = (f"{seconds * 1e3:.2f} ms | {seconds / first[kind]:.2f}" for kind, seconds in kinds.items())
        print(f"| {compiler} | {cpu} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

"""`python -m benchmarks.gpu [TEXT]`: proves and measures everything on a GPU, within eight minutes.

One table, a line at a time as each part ends; a part that fails or takes too long does not stop the others.
It needs no network: the models have random weights, and the text is tiny Shakespeare where it is beside the
clone, or any file.

The parts: tests that need a GPU; a run that is stopped and resumed, compared bit by bit; memory that runs
out; `mygpt train TEXT --time T`; training of GPT-2 small and of a Llama-type model, with the share of the
card's peak in bfloat16; generation, beside transformers and beside the bytes that memory gives per second.
`--device cpu --quick` tries the parts themselves on any machine.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.generate import GPT2_SMALL, LLAMA, MODELS
from mygpt_cli.backends.choice import compile_training, decoder_for
from mygpt_cli.config.sampling import resolve
from mygpt_cli.generation.chain import chain
from mygpt_cli.generation.loop import begin, grow
from mygpt_cli.generation.sampler import Sampler
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.tokenizer_training import train_tokenizer

ROOT = Path(__file__).parents[1]
TEXT = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
PEAK = {
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L4": 121e12,
    "4090": 165e12,
}  # dense bfloat16, FLOP/s
SECONDS = 8 * 60

Rows = Iterator[tuple[str, str]]  # what, and what came of it


@dataclass(frozen=True)
class Bench:
    """What all parts know: where to compute, the text, a folder to work in, and whether it is only a try."""

    device: torch.device
    text: Path
    folder: Path
    quick: bool

    @property
    def dtype(self) -> torch.dtype:
        """The type to compute in; few CPUs have bfloat16."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def command(self, *arguments: object) -> list[str]:
        """Return the words of a command on the device."""
        return [sys.executable, "-m", "mygpt_cli", *map(str, arguments), "--device", self.device.type]

    def environment(self) -> dict[str, str]:
        """Return the variables of a command: this clone, and a cache of its own."""
        return os.environ | {"PYTHONPATH": str(ROOT), "MYGPT_CACHE_DIR": str(self.folder / "cache")}

    def mygpt(self, *arguments: object) -> str:
        """Run a command; return its stdout, or raise with the end of its stderr."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            check=False,
            timeout=150,
            text=True,
            encoding="utf-8",
        )
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def digest(self, run: Path) -> str:
        """Return the SHA-256 of a run's last weights."""
        return sha256((self.folder / run / "last" / "model.safetensors").read_bytes()).hexdigest()

    def settle(self) -> None:
        """Wait until the device has done all that it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds_of(self, work: Callable[[], object], times: int) -> float:
        """Return the mean seconds of some work, after twice that do not count."""
        for _ in range(2):
            work()
        self.settle()
        start = time.perf_counter()
        for _ in range(times):
            work()
        self.settle()
        return (time.perf_counter() - start) / times


def machine(bench: Bench) -> Rows:
    """Say what this is measured on."""
    name = torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU"
    yield "device", f"{name}, torch {torch.__version__}, Python {sys.version.split()[0]}"
    numbers = torch.empty(2**22 if bench.quick else 2**30, device=bench.device, dtype=torch.uint8)
    seconds = bench.seconds_of(lambda: numbers.clone(), 10)
    yield "memory, read and written", f"{2 * numbers.numel() / seconds / 1e9:,.0f} GB/s"


def tests(bench: Bench) -> Rows:
    """Run the tests that need a GPU."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "on_a_gpu", "tests/backends", "tests/training"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=180,
        text=True,
        encoding="utf-8",
    )
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    yield "tests that need a GPU", lines[-1].strip("= ")
    yield from (("", line) for line in lines if line.startswith("FAILED"))


def resumed(bench: Bench) -> Rows:
    """Stop a run half way, resume it, and compare its weights with those of one that was not stopped."""
    tiny = ("--layers", 2, "--width", 64, "--context", 64, "--batch-size", 8, "--dropout", 0.1)
    asked = ("train", bench.text, "--steps", 200, "--save-every", 20, *tiny)
    whole = bench.mygpt(*asked, "--name", "whole", "--quiet").strip()
    with subprocess.Popen(
        bench.command(*asked, "--name", "stopped", "--json"),
        cwd=bench.folder,
        env=bench.environment(),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("event") == "saved":
                process.terminate()
                break
        process.stdout.read()
    run = bench.mygpt("train", "--resume", "stopped-001", "--quiet").strip()
    same = len({bench.digest(Path(folder)) for folder in (whole, run)}) == 1
    yield "stopped and resumed", "the same bits" if same else "OTHER BITS"


def out_of_memory(bench: Bench) -> Rows:
    """Ask for a step that is far too large: it goes through in smaller parts."""
    if bench.device.type != "cuda":
        yield "memory runs out", "needs a GPU"
        return
    shape = ("--layers", 4, "--width", 512, "--context", 512, "--batch-size", 16384, "--steps", 2)
    events = bench.mygpt("train", bench.text, *shape, "--json")
    notes = [json.loads(line).get("text", "") for line in events.splitlines() if '"note' in line]
    yield "memory runs out", next((note for note in notes if "memory" in note), "it sufficed")


def shakespeare(bench: Bench) -> Rows:
    """Train for 10, 20 and 60 seconds, by characters and by default."""
    for seconds in (10,) if bench.quick else (10, 20, 60):
        for flags in (("--tokenizer", "char"), ()):
            start = time.perf_counter()
            events = bench.mygpt("train", bench.text, "--time", f"{seconds}s", *flags, "--json")
            took = time.perf_counter() - start
            records = [json.loads(line) for line in events.splitlines()]
            best = min(each["nats_per_character"] for each in records if each["event"] == "evaluated")
            plan = next(each for each in records if each["event"] == "plan")
            what = f"train --time {seconds}s {' '.join(flags)}".strip()
            yield (
                what,
                f"{best:.4f} nats per character in {took:.1f} s, {plan['parameters'] / 1e6:.1f} M parameters",
            )


def new_model(bench: Bench, name: str) -> GPT:
    """Return a model with random weights on the device."""
    shape: dict[str, Any] = dict(MODELS[name])
    if bench.quick:
        shape |= {"layers": 2, "vocab_size": 512}
    model = GPT(configure(shape.pop("arch"), **shape))
    model.initialise(torch.Generator().manual_seed(1))
    return model.to(bench.device)


def training(bench: Bench) -> Rows:
    """Take steps of a larger model, in bfloat16, compiled: tokens per second, and the share of the peak."""
    for name in (GPT2_SMALL, LLAMA):
        model, rows = new_model(bench, name), 1 if bench.quick else 16
        model.compute_dtype = bench.dtype
        config = model.config
        context = 64 if bench.quick else min(1024, config.context)
        backend = compile_training("auto", bench.device, torch.bfloat16, bench.folder / "kernels").backend(
            model
        )
        ids = torch.randint(0, config.vocab_size, (rows, context + 1), device=bench.device)

        def step(model: GPT = model, backend: Any = backend, ids: Tensor = ids) -> None:
            for parameter in model.parameters():
                parameter.grad = None
            backend.accumulate_gradients(ids[:, :-1], ids[:, 1:])

        rate = rows * context / bench.seconds_of(step, 2 if bench.quick else 10)
        matrices = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and n != "positions")
        lookup = 0 if config.tied else config.vocab_size * config.width
        attention = 12 * config.layers * config.heads * config.head_width * context
        flops = rate * (6 * (matrices - lookup) + attention)
        card = torch.cuda.get_device_name() if bench.device.type == "cuda" else ""
        peak = next((peak for kind, peak in PEAK.items() if kind in card), math.nan)
        share = "" if math.isnan(peak) else f", {flops / peak:.0%} of the peak"
        yield f"training {name}", f"{rate:,.0f} tokens/s, {flops / 1e12:.1f} TFLOP/s{share}"
        del model, backend


def generation(bench: Bench) -> Rows:
    """Generate 1 and 64 texts: tokens per second, and the share of what memory allows."""
    letters = train_tokenizer("char", ["text"], vocab_size=None, end_of_text=False)
    for name in (GPT2_SMALL, LLAMA):
        model = new_model(bench, name).requires_grad_(False)
        model.compute_dtype = bench.dtype
        model.to(bench.dtype)
        decoder = decoder_for(model, "none", bench.folder / "kernels")
        for count in (1, 64):
            tokens = 8 if bench.quick else 200
            asked = {"temperature": 0.0, "seed": 1, "max_new_tokens": tokens, "num_samples": count}
            sampling = resolve(asked)

            def write(sampling: Any = sampling, decoder: Any = decoder) -> None:
                state = begin(decoder, [list(range(16))], sampling)
                filters = chain(sampling, letters)
                for _ in grow(state, Sampler(sampling, filters, state.length, decoder.sampler)):
                    pass

            rate = count * tokens / bench.seconds_of(write, 1 if bench.quick else 2)
            size = sum(p.numel() * p.element_size() for p in model.parameters() if p is not model.positions)
            yield (
                f"generation, {count} at once, {name}",
                f"{rate:,.0f} tokens/s, {rate / count * size / 1e9:,.0f} GB/s",
            )
        del model, decoder


def transformers(bench: Bench) -> Rows:
    """Generate with transformers: its own cache, and its static cache with torch.compile."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_layer": 2, "vocab_size": 512} if bench.quick else {}
    config = GPT2Config(**shape, bos_token_id=None, eos_token_id=None, pad_token_id=0)
    model = GPT2LMHeadModel(config).eval().to(bench.device, bench.dtype)
    tokens = 8 if bench.quick else 200
    for count in (1, 64):
        ids = torch.arange(16, device=bench.device)[None].repeat(count, 1)
        for cache in ("dynamic", "static"):
            flags: dict[str, Any] = {"do_sample": False, "max_new_tokens": tokens, "min_new_tokens": tokens}
            flags |= {"cache_implementation": "static"} if cache == "static" else {}

            def write(ids: Tensor = ids, flags: dict[str, Any] = flags) -> None:
                model.generate(ids, attention_mask=torch.ones_like(ids), **flags)

            rate = count * tokens / bench.seconds_of(write, 1)
            yield f"transformers, {count} at once, {cache} cache, GPT-2 small", f"{rate:,.0f} tokens/s"


PARTS = (machine, tests, resumed, out_of_memory, shakespeare, training, generation, transformers)


def main() -> None:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?", default=TEXT)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small models and few steps, to try the parts")
    parser.add_argument("--parts", nargs="+", choices=[part.__name__ for part in PARTS], help="only these")
    arguments = parser.parse_args()
    started = time.perf_counter()
    print("| what | result | s |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            torch.device(arguments.device), arguments.text.absolute(), Path(folder), arguments.quick
        )
        for part in PARTS:
            name = part.__name__
            if arguments.parts and name not in arguments.parts:
                continue
            if time.perf_counter() - started > SECONDS:
                print(f"| {name} | left out: no time | |", flush=True)
                continue
            begun = time.perf_counter()
            try:
                for what, result in part(bench):
                    print(f"| {what} | {result} | {time.perf_counter() - begun:.0f} |", flush=True)
                    begun = time.perf_counter()
            except Exception as fault:  # whatever a part comes up with, the others are worth having
                reason = str(fault).strip().splitlines() or [""]
                print(f"| {name} | FAILED: {type(fault).__name__}: {reason[0][:300]} | |", flush=True)


if __name__ == "__main__":
    main()

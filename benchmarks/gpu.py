"""`python -m benchmarks.gpu [TEXT]`: proves and measures everything on a GPU, within eight minutes.

One table, a line at a time as each result comes; one that fails does not stop the others, and those that
there is no time left for are named. It needs no network: the models have random weights, and the text is tiny
Shakespeare where it is beside the clone, or any file.

The parts: tests that need a GPU; generation by `mygpt sample`'s own decoder in float32 and bfloat16, beside
the bytes that memory gives per second; training steps of GPT-2 small and of a Llama-type model, with the
share of the card's peak in bfloat16; two runs alike, and one that is stopped and resumed, compared bit by
bit; `mygpt train TEXT --time T`; memory that runs out; generation by transformers.
`--device cpu --quick` tries the parts themselves on any machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.generate import GPT2_SMALL, LLAMA, MODELS
from mygpt_cli.backends.choice import compile_training, decoder_for
from mygpt_cli.backends.interfaces import Decoder, TrainingBackend
from mygpt_cli.config.sampling import resolve
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.generation.chain import chain
from mygpt_cli.generation.loop import begin, grow
from mygpt_cli.generation.sampler import Sampler
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.tokenizer_training import train_tokenizer
from mygpt_cli.training.optimizer import Optimizer

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
LONGEST = 150  # seconds of a command
SPARE = 6 * 2**30  # bytes that are left free where memory is to run out

Work = Callable[[], str]
Rows = Iterator[tuple[str, Work]]  # what, and how to find out


@dataclass
class Bench:
    """What all parts know: where to compute, the text, a folder to work in, and whether it is only a try.

    `bandwidth` is that of memory in bytes per second, once it has been measured.
    """

    device: torch.device
    text: Path
    folder: Path
    quick: bool
    bandwidth: float = 0.0

    @property
    def dtype(self) -> torch.dtype:
        """The type to train in; few CPUs have bfloat16."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    @property
    def card(self) -> str:
        """How the GPU is called."""
        return torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"

    def command(self, *arguments: object) -> list[str]:
        """Return the words of a command on the device."""
        return [sys.executable, "-m", "mygpt_cli", *map(str, arguments), "--device", self.device.type]

    def environment(self) -> dict[str, str]:
        """Return the variables of a command: this clone first, and a cache of its own."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return os.environ | {"PYTHONPATH": path, "MYGPT_CACHE_DIR": str(self.folder / "cache")}

    def run(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        """Run any program in a folder, for as long as a command may take."""
        how: dict[str, Any] = {"capture_output": True, "check": False, "text": True, "encoding": "utf-8"}
        return subprocess.run(command, cwd=folder, env=self.environment(), timeout=LONGEST, **how)

    def mygpt(self, *arguments: object) -> str:
        """Run a command; return its stdout, or raise with the end of its stderr."""
        done = self.run(self.command(*arguments), self.folder)
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def events(self, *arguments: object) -> list[dict[str, Any]]:
        """Run a command with --json; return its events."""
        return [json.loads(line) for line in self.mygpt(*arguments, "--json").splitlines()]

    def digest(self, run: str) -> str:
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

    def memory() -> str:
        numbers = torch.empty(2**22 if bench.quick else 2**30, device=bench.device, dtype=torch.uint8)
        bench.bandwidth = 2 * numbers.numel() / bench.seconds_of(numbers.clone, 10)
        return f"{bench.bandwidth / 1e9:,.0f} GB/s"

    yield "device", lambda: f"{bench.card}, torch {torch.__version__}, Python {sys.version.split()[0]}"
    yield "memory, read and written", memory


def tests(bench: Bench) -> Rows:
    """Run the tests that need a GPU; those of the command take the package to be installed."""

    def run() -> str:
        done = bench.run([sys.executable, "-m", "pytest", "-k", "on_a_gpu", "tests/backends"], ROOT)
        lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        return "; ".join([lines[-1].strip("= "), *failed])

    yield "tests that need a GPU", run


def resumed(bench: Bench) -> Rows:
    """Train twice alike; stop a third run half way and resume it; and compare the last weights."""
    tiny = ("--layers", 2, "--width", 64, "--context", 64, "--batch-size", 8, "--dropout", 0.1)
    asked = ("train", bench.text, "--steps", 200, "--save-every", 20, *tiny)
    digests: list[str] = []

    def compared(digest: str) -> str:
        digests.append(digest)
        return "the same bits" if digest == digests[0] else "OTHER BITS"

    def alike() -> str:
        for _ in range(2):
            said = compared(bench.digest(bench.mygpt(*asked, "--name", "whole", "--quiet").strip()))
        return said

    def stopped() -> str:
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
        if process.returncode != 143:
            raise RuntimeError(f"the run was to be stopped, and ended with {process.returncode}")
        if not digests:
            raise RuntimeError("there is no whole run to compare with")
        run = bench.mygpt("train", "--resume", "stopped-001", "--quiet").strip()
        return compared(bench.digest(run))

    yield "two runs alike", alike
    yield "stopped and resumed", stopped


def out_of_memory(bench: Bench) -> Rows:
    """Take nearly all memory away, and train: steps go through in smaller parts."""

    def run() -> str:
        if bench.device.type != "cuda":
            return "needs a GPU"
        torch.cuda.empty_cache()
        taken = torch.empty(
            torch.cuda.mem_get_info()[0] - SPARE, dtype=torch.uint8, device=bench.device
        )  # of which the command does not know
        shape = ("--layers", 4, "--width", 512, "--context", 512, "--batch-size", 512, "--steps", 2)
        try:
            notes = [event["text"] for event in bench.events("train", bench.text, *shape) if "text" in event]
        finally:
            del taken
            torch.cuda.empty_cache()
        said = [note for note in notes if note.startswith("memory ran out")]
        return said[-1] if said else "FAILED: memory did not run out"

    yield "memory runs out", run


def shakespeare(bench: Bench) -> Rows:
    """Train for 20 and 60 seconds by characters and by default, and for 10 by characters."""

    def run(seconds: int, flags: tuple[str, ...]) -> str:
        start = time.perf_counter()
        events = bench.events("train", bench.text, "--time", f"{seconds}s", *flags)
        took = time.perf_counter() - start
        best = min(each["nats_per_character"] for each in events if each["event"] == "evaluated")
        size = next(each["parameters"] for each in events if each["event"] == "plan") / 1e6
        return f"{best:.4f} nats per character in {took:.1f} s, {size:.1f} M parameters"

    characters = ("--tokenizer", "char")
    runs: tuple[tuple[int, tuple[str, ...]], ...] = (
        (20, characters),
        (60, characters),
        (60, ()),
        (20, ()),
        (10, characters),
    )
    for seconds, flags in runs[-1:] if bench.quick else runs:
        what = " ".join(["train --time", f"{seconds}s", *flags])
        yield what, partial(run, seconds, flags)


def new_model(bench: Bench, name: str) -> GPT:
    """Return a model with random weights on the device."""
    shape: dict[str, Any] = dict(MODELS[name])
    if bench.quick:
        shape |= {"layers": 2, "vocab_size": 512}
    model = GPT(configure(shape.pop("arch"), **shape))
    model.initialise(torch.Generator().manual_seed(1))
    return model.to(bench.device)


def optimizer_of(model: GPT, backend: TrainingBackend) -> Optimizer:
    """Return what `mygpt train` takes its steps with."""
    shape: dict[str, Any] = {"layers": model.config.layers, "heads": model.config.heads}
    shape |= {"width": model.config.width, "context": model.config.context, "arch": model.config.arch}
    rates: dict[str, Any] = {"lr": 3e-3, "muon_lr": 0.02, "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95}
    course: dict[str, Any] = {"schedule": "linear", "warmup": 1, "decay_fraction": 0.5, "final_lr": 0.0}
    every: dict[str, Any] = {"eval_every": 1, "save_every": 1, "log_every": 1, "patience": 0}
    others: dict[str, Any] = {"vocab_size": None, "dropout": 0.0, "bpe_dropout": 0.0, "bias": False}
    others |= {"steps": 2, "batch_size": 1, "dtype": "float32"}
    config = TrainConfig(**shape, **rates, **course, **every, **others)
    return Optimizer(model, config, backend.muon)


def training(bench: Bench) -> Rows:
    """Take steps of a larger model, in bfloat16, compiled: tokens per second, and the share of the peak."""

    def run(name: str) -> str:
        model, rows = new_model(bench, name), 1 if bench.quick else 16
        model.compute_dtype = bench.dtype
        config = model.config
        context = 64 if bench.quick else min(1024, config.context)
        kernels = bench.folder / "kernels"
        backend = compile_training("auto", bench.device, bench.dtype, kernels).backend(model)
        optimizer = optimizer_of(model, backend)
        ids = torch.randint(0, config.vocab_size, (rows, context + 1), device=bench.device)

        def gradients() -> None:
            for parameter in model.parameters():
                parameter.grad = None
            backend.accumulate_gradients(ids[:, :-1], ids[:, 1:])

        def step() -> None:
            gradients()
            optimizer.step(1e-3)

        matrices = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and n != "positions")
        lookup = 0 if config.tied else config.vocab_size * config.width
        attention = 12 * config.layers * config.heads * config.head_width * context
        flops_per_token = 6 * (matrices - lookup) + attention
        peak = next(
            (peak for kind, peak in PEAK.items() if kind in bench.card.replace("-", " ").split()), None
        )
        said = []
        for what, work in (("forward and backward", gradients), ("with the optimizer's step", step)):
            rate = rows * context / bench.seconds_of(work, 2 if bench.quick else 10)
            flops = rate * flops_per_token
            share = f", {flops / peak:.0%} of the peak" if peak else ""
            said.append(f"{what} {rate:,.0f} tokens/s, {flops / 1e12:.1f} TFLOP/s{share}")
        return "; ".join(said)

    for name in (GPT2_SMALL, LLAMA):
        yield f"training {name}", partial(run, name)


def generation(bench: Bench) -> Rows:
    """Generate 1 and 64 texts, as `mygpt sample` does: tokens per second, and the share of the bandwidth."""
    letters = train_tokenizer("char", ["text"], vocab_size=None, end_of_text=False)
    decoders: dict[tuple[str, str], Decoder] = {}

    def run(name: str, kind: str, count: int) -> str:
        if (name, kind) not in decoders:
            decoders.clear()
            model = new_model(bench, name).requires_grad_(False)
            decoders[name, kind] = decoder_for(model, kind, bench.folder / "kernels")
        decoder, tokens = decoders[name, kind], 8 if bench.quick else 200
        sampling = resolve({"temperature": 0.0, "seed": 1, "max_new_tokens": tokens, "num_samples": count})
        filters = chain(sampling, letters)

        def write() -> None:
            state = begin(decoder, [list(range(16))], sampling)
            for _ in grow(state, Sampler(sampling, filters, state.length, decoder.sampler)):
                pass

        rate = count * tokens / bench.seconds_of(write, 1 if bench.quick else 2)
        model = decoder.model
        size = sum(p.numel() * p.element_size() for p in model.parameters() if p is not model.positions)
        share = f", {rate / count * size / bench.bandwidth:.0%} of the bandwidth" if bench.bandwidth else ""
        return f"{rate:,.0f} tokens/s{share}"

    for name in (GPT2_SMALL, LLAMA):
        for kind, called in (("bfloat16", "bfloat16"), ("none", "float32")):
            for count in (1, 64):
                yield f"generation, {count} at once, {name}, {called}", partial(run, name, kind, count)


def transformers(bench: Bench) -> Rows:
    """Generate with transformers: its own cache, and its static cache with torch.compile."""
    models: list[Any] = []
    tokens = 8 if bench.quick else 200

    def run(count: int, cache: str) -> str:
        from transformers import GPT2Config, GPT2LMHeadModel

        if not models:
            shape = {"n_layer": 2, "vocab_size": 512} if bench.quick else {}
            config = GPT2Config(**shape, bos_token_id=None, eos_token_id=None, pad_token_id=0)
            models.append(GPT2LMHeadModel(config).eval().to(bench.device, bench.dtype))
        ids: Tensor = torch.arange(16, device=bench.device)[None].repeat(count, 1)
        flags: dict[str, Any] = {"do_sample": False, "max_new_tokens": tokens, "min_new_tokens": tokens}
        flags |= {"cache_implementation": "static"} if cache == "static" else {}
        mask = torch.ones_like(ids)
        seconds = bench.seconds_of(lambda: models[0].generate(ids, attention_mask=mask, **flags), 1)
        return f"{count * tokens / seconds:,.0f} tokens/s"

    for cache in ("dynamic", "static"):
        for count in (1, 64):
            what = f"transformers, {count} at once, {cache} cache, GPT-2 small"
            yield what, partial(run, count, cache)


# What is wanted most comes first.
PARTS = (machine, tests, generation, training, resumed, shakespeare, out_of_memory, transformers)


def main() -> None:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?", default=TEXT)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small models and few steps, to try the parts")
    parser.add_argument("--parts", nargs="+", choices=[part.__name__ for part in PARTS], help="only these")
    arguments = parser.parse_args()
    if not arguments.text.is_file():
        parser.error(f"there is no text {arguments.text}: name one")
    started = time.perf_counter()
    print("| what | result | s |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place, text = torch.device(arguments.device), arguments.text.absolute()
        bench = Bench(place, text, Path(folder), arguments.quick)
        for part in PARTS:
            if arguments.parts and part.__name__ not in arguments.parts:
                continue
            for what, work in part(bench):
                begun = time.perf_counter()
                print(f"| {what} | {result_of(work, SECONDS - begun + started)} |", end="", flush=True)
                print(f" {time.perf_counter() - begun:.0f} |", flush=True)


def result_of(work: Work, left: float) -> str:
    """Return what came of some work, or why nothing did, whatever it was."""
    if left <= 0:
        return "left out: no time"
    try:
        return work()
    except Exception as fault:
        reason = (str(fault).strip().splitlines() or [""])[0]
        return f"FAILED: {type(fault).__name__}: {reason[:300]}"


if __name__ == "__main__":
    main()

"""`python -m benchmarks.generate`: tokens per second side by side with transformers and llama.cpp.

Models with random weights, a prompt of 16 tokens, greedy choice. mygpt writes as `mygpt sample` does, filters
and choice included. Where llama.cpp's `llama-bench` and the Python package `gguf` are installed, it runs the
same models in the same precision (int8: Q8_0), without a prompt. The memory's read speed is measured in the
same run: no token can come faster than all weights are read. Last comes how long the command takes to its
first token, beside `import torch` alone.
`--checkpoint` also measures what rounding the weights of a trained model costs on a text.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import llama_cpp
from mygpt_cli.backends.choice import decoder_for
from mygpt_cli.backends.cpu.decoder import allocate, round_weights
from mygpt_cli.backends.interfaces import Decoder
from mygpt_cli.checkpoints import checkpoint, hf, saving
from mygpt_cli.checkpoints.gguf import write_weights
from mygpt_cli.config.sampling import resolve
from mygpt_cli.generation.chain import chain
from mygpt_cli.generation.loop import begin, grow
from mygpt_cli.generation.sampler import Sampler
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.dataset import val_windows
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer

GPT2_SMALL, LLAMA, SMALL = "GPT-2 small, 124 M", "Llama type, 135 M", "6 layers of 384, 10.6 M"
MODELS: dict[str, dict[str, Any]] = {
    GPT2_SMALL: {
        **{"arch": "gpt2", "vocab_size": 50257, "layers": 12, "heads": 12, "width": 768, "context": 1024},
    },
    LLAMA: {  # the shape of SmolLM2-135M
        **{"arch": "llama", "vocab_size": 49152, "layers": 30, "heads": 9, "kv_heads": 3, "width": 576},
        **{"context": 2048, "mlp_width": 1536, "tied": True},
    },
    SMALL: {"arch": "gpt2", "vocab_size": 65, "layers": 6, "heads": 6, "width": 384, "context": 256},
}
CASES = (  # model, sequences at once, new tokens, kinds of weights
    (GPT2_SMALL, 1, 100, ("none", "bfloat16", "int8")),
    (LLAMA, 1, 100, ("none", "bfloat16", "int8")),
    (SMALL, 1, 100, ("none", "bfloat16", "int8")),
    (SMALL, 64, 200, ("bfloat16",)),
)
BYTES = {"none": 4, "bfloat16": 2, "int8": 1}
GGUF_TYPES = {"none": "f32", "bfloat16": "bf16", "int8": "q8_0"}  # f16 came out no faster than bf16
REPEATS = 3
WIDTH = 110
COLUMNS = ("model", "at once", "weights", "transformers", "llama.cpp", "mygpt", "ratio", "of the limit")


def new_model(name: str) -> GPT:
    """Return a model with random weights."""
    model = GPT(configure(**MODELS[name]))
    model.initialise(torch.Generator().manual_seed(1))
    return checkpoint.frozen(model)


def read_speed() -> float:
    """Return the memory's read speed in bytes per second: the best of some products with 256 MB of it."""
    numbers, vector = allocate(torch.empty(8192, 8192)).fill_(1.0), torch.ones(8192)
    best = math.inf
    for _ in range(8):
        start = time.perf_counter()
        torch.mv(numbers, vector)
        best = min(best, time.perf_counter() - start)
    return numbers.numel() * 4 / best


def seconds_of(write: Callable[[], object]) -> float:
    """Return the median time of some runs, after one that does not count."""
    write()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        write()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def ours(decoder: Decoder, tokenizer: Tokenizer, count: int, tokens: int) -> float:
    """Return the tokens per second of mygpt, for all sequences together."""
    sampling = resolve({"temperature": 0.0, "seed": 1, "max_new_tokens": tokens, "num_samples": count})
    filters = chain(sampling, tokenizer)

    def write() -> None:
        state = begin(decoder, [list(range(16))], sampling)
        for _ in grow(state, Sampler(sampling, filters, state.length, decoder.sampler)):
            pass

    return count * tokens / seconds_of(write)


def theirs(name: str, count: int, tokens: int, dtype: torch.dtype) -> float:
    """Return the tokens per second of transformers' generate with its cache."""
    from transformers import AutoConfig, AutoModelForCausalLM

    told = hf.to_config(configure(**MODELS[name])) | {"pad_token_id": 0}
    config = AutoConfig.for_model(**told)
    model = AutoModelForCausalLM.from_config(config).eval().to(dtype)
    ids = torch.arange(16)[None].repeat(count, 1)
    flags: dict[str, Any] = {"do_sample": False, "max_new_tokens": tokens, "min_new_tokens": tokens}
    mask = torch.ones_like(ids)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        return count * tokens / seconds_of(lambda: model.generate(ids, attention_mask=mask, **flags))


def cold_start(name: str, folder: Path) -> dict[str, float]:
    """Return median seconds: `import torch` alone, and `mygpt sample` to its first token and to its exit."""
    letters = "".join(map(chr, range(33, 33 + MODELS[name]["vocab_size"])))
    tokenizer = train_tokenizer("char", [letters], vocab_size=None, end_of_text=False)
    saving.save(folder, model=new_model(name), tokenizer=tokenizer, state={})
    sample = ["-m", "mygpt_cli", "sample", "--checkpoint", str(folder), "--prompt", "A", "--seed", "1"]
    times: dict[str, list[float]] = {"import torch": [], "first token": [], "exit": []}
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        times["import torch"].append(time.perf_counter() - start)
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, *sample], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.read(2)  # the prompt and a letter
            times["first token"].append(time.perf_counter() - start)
            process.stdout.read()
        times["exit"].append(time.perf_counter() - start)
    return {what: statistics.median(seconds[1:]) for what, seconds in times.items()}


@torch.inference_mode()
def bits_per_byte(folder: Path, text: str, kind: str) -> float:
    """Return the loss of a checkpoint on a text, its weights rounded."""
    loaded = checkpoint.load(folder)
    model = checkpoint.frozen(loaded.model)
    round_weights(model, "float32" if kind == "none" else kind)
    ids = loaded.tokenizer.encode_array(text)
    nats, context = 0.0, loaded.config.context
    for x, y in val_windows(ids, context, max(1, 4096 // context)):
        logits = model(torch.from_numpy(x)).flatten(0, 1)
        nats += torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(y).flatten(), reduction="sum"
        ).item()
    first = len(loaded.tokenizer.decode_bytes(ids[:1].tolist()))
    return nats / math.log(2) / (len(text.encode()) - first)


def main() -> None:
    """Measure, print the tables, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path, help="a trained model, to see what rounding costs")
    parser.add_argument("--text", type=Path, help="the text to see it on: its last tenth")
    parser.add_argument("--llama-bench", help="where it is, if not in LLAMA_BENCH or on the PATH")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    console = Console()
    results: list[dict[str, Any]] = []
    llama_bench = llama_cpp.find(arguments.llama_bench)
    speeds = []  # before each of the cases, since that of a machine that others share changes
    table = Table(show_edge=False, pad_edge=False)  # fits a narrow terminal so
    for column in COLUMNS:
        left, longest = column in ("model", "weights"), max(map(len, column.split()))
        table.add_column(column, justify="left" if left else "right", min_width=longest)
    letters = train_tokenizer("char", ["text"], vocab_size=None, end_of_text=False)  # no filter asks for it
    with tempfile.TemporaryDirectory() as folder:
        for name, count, tokens, kinds in CASES:
            base = {
                dtype: theirs(name, count, tokens, dtype)
                for dtype in ((torch.float32, torch.bfloat16) if count == 1 else (torch.float32,))
            }
            for kind in kinds:
                model = new_model(name)
                decoder = decoder_for(model, kind, Path(folder))
                speeds.append(read_speed())
                rate = ours(decoder, letters, count, tokens)
                llama = None
                if llama_bench and count == 1:
                    file = Path(folder) / "model.gguf"
                    write_weights(model, file, GGUF_TYPES[kind])
                    llama = llama_cpp.rate(llama_bench, file, tokens, REPEATS)
                    file.unlink()
                peer = base.get(torch.float32 if kind == "none" else torch.bfloat16, base[torch.float32])
                read = sum(p.numel() for p in model.parameters() if p is not model.positions) * BYTES[kind]
                share = rate / count * read / speeds[-1]
                row = (
                    name,
                    str(count),
                    kind,
                    f"{peer:.0f}",
                    f"{llama:.0f}" if llama else "–",
                    f"{rate:.0f}",
                    f"{rate / peer:.1f}",
                    f"{share:.0%}",
                )
                table.add_row(*row)
                rates = {"transformers": peer, "llama.cpp": llama, "mygpt": rate}
                results.append({"model": name, "at_once": count, "weights": kind, **rates})
        slowest, fastest = min(speeds) / 1e9, max(speeds) / 1e9
        table.title = f"Tokens per second; memory reads {slowest:.1f} to {fastest:.1f} GB/s"
        console.print(table)
        seconds = cold_start(CASES[-1][0], Path(folder) / "cold")
    table = Table(title="Cold start, 10.6 M: seconds from the start of the process")
    for what in seconds:
        table.add_column(what, justify="right")
    table.add_row(*(f"{value:.2f}" for value in seconds.values()))
    console.print(table)
    results.append({"cold start": seconds})
    if arguments.checkpoint and arguments.text:
        whole = arguments.text.read_text(encoding="utf-8")
        text = whole[int(len(whole) * 0.9) :]
        table = Table(title="What rounding the weights costs")
        for column in ("weights", "bits per byte", "change"):
            table.add_column(column, justify="right")
        exact = bits_per_byte(arguments.checkpoint, text, "none")
        for kind in BYTES:
            loss = bits_per_byte(arguments.checkpoint, text, kind)
            table.add_row(kind, f"{loss:.4f}", f"{loss / exact - 1:+.3%}")
            results.append({"weights": kind, "bits_per_byte": loss})
        console.print(table)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"read_speeds": speeds, "results": results}, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()

"""`python -m benchmarks.gguf_agreement`: whether llama.cpp reads what `mygpt export` writes as mygpt does.

Five small models with random weights, exported in float32: greedy texts by llama.cpp's `llama-simple`, and
ids of strings that are hard for tokenizers by its `llama-tokenize`. llama.cpp's source comes with the source
package of llama-cpp-python; `cmake --build BUILD --target llama-simple llama-tokenize` builds both.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from mygpt_cli.checkpoints.checkpoint import Checkpoint
from mygpt_cli.checkpoints.gguf import export
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.config import RopeScaling
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.patterns import GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer

CONTEXT, SIZE = 256, 700
SHAPE: dict[str, Any] = {"layers": 3, "heads": 4, "width": 64, "context": CONTEXT}
SCALING = RopeScaling(kind="llama3", factor=8.0, original_context=64)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (GPT2_PATTERN, {"arch": "gpt2"}),
    "llama": (LLAMA3_PATTERN, {"arch": "llama", "kv_heads": 2}),
    "llama, tied, scaled": (LLAMA3_PATTERN, {"arch": "llama", "tied": True, "rope_scaling": SCALING}),
    "qwen2": (QWEN2_PATTERN, {"arch": "qwen2", "kv_heads": 2}),
    "qwen3": (QWEN2_PATTERN, {"arch": "qwen3", "kv_heads": 1, "head_width": 32}),
}
PROMPTS = ("Once upon a time", "It's 12 o'clock,", "naïve café 👩‍👩‍👧", "x", "def f(x):\n    return x")
HARD = (
    "👩‍👩‍👧‍👦 🇳🇱 👍🏽 e\u0301\u0323 \u0301alone",
    "a  b   c    d" + " " * 300 + "e",
    "  two leading, two trailing  ",
    "line\r\nline\r\n\r\n  indented\n\tTab\t\ttabs \n \n x",
    "\u0301\u0301\u200d\ufeff\u00a0\u3000\u2028\x85\x1c",
    "I'LL say WE'VE don't 'RE he'd've 's",
    "1 22 333 4444 55555 ½ ² Ⅷ ٣٤ 1.000,00 a1b2",
    "中文没有空格。日本語 한국어 العربية हिन्दी ไทย",
    "ﬁ ﬅ ß ẞ Å Å Ω \u1e9b\u0323",
    "x+=y; /* ... */ #!/bin/sh <s> [INST] <|im_start|> ▁a",
    "x" * 3000,
    "abcat" * 800,
    "1" * 1500,
    "中文" * 900,
)
TEXT = "\n".join((*PROMPTS, *HARD[:10], "the cat sat on the flat mat and it's 2024; ")) * 20


@dataclass(frozen=True)
class Row:
    """What agrees of one model."""

    texts: int
    same_tokens: int
    ids: int


def random_model(size: int, parts: dict[str, Any]) -> GPT:
    """Return a model whose weights are random and not small, so that its texts do not repeat themselves."""
    model = GPT(configure(vocab_size=size, **(SHAPE | parts)))
    rng = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.2, generator=rng)
    return model.requires_grad_(False)


def greedy(model: GPT, tokenizer: Tokenizer, prompt: str, count: int) -> list[int]:
    """Return the best tokens after a prompt, all of the text read again for each."""
    ids = tokenizer.encode(prompt)
    first = len(ids)
    while len(ids) < first + count:
        best = int(model(torch.tensor([ids]))[0, -1].argmax())
        if best in tokenizer.ends:
            break
        ids.append(best)
    return ids[first:]


def shown(tokenizer: Tokenizer, ids: list[int]) -> bytes:
    """Return tokens as `llama-simple` prints them: of each what comes before a NUL."""
    return b"".join(tokenizer.token_bytes(token).split(b"\0")[0] for token in ids)


def theirs(command: str, path: Path, prompt: str, count: int) -> bytes:
    """Return what `llama-simple` writes after a prompt."""
    words = [command, "-m", str(path), "-n", str(count), "-ngl", "0", prompt]
    done = subprocess.run(words, check=True, capture_output=True)
    return done.stdout.removesuffix(b"\n")


def their_ids(command: str, path: Path, text: str, place: Path) -> list[int]:
    """Return what `llama-tokenize` makes of a text."""
    place.write_bytes(text.encode())
    options = ("--ids", "--no-bos", "--no-escape", "--no-parse-special", "--log-disable")
    done = subprocess.run([command, "-m", path, "-f", place, *options], check=True, capture_output=True)
    ids: list[int] = json.loads(done.stdout)
    return ids


def agreement(name: str, simple: str, tokenize: str, count: int, folder: Path) -> Row:
    """Export a model and compare what llama.cpp makes of it."""
    pattern, parts = MODELS[name]
    tokenizer = train_tokenizer("bpe", [TEXT], vocab_size=SIZE, end_of_text=True, pattern=pattern)
    model = random_model(tokenizer.vocab_size, parts)
    path = folder / "model.gguf"
    export(Checkpoint(folder, model, tokenizer, model.config, None), path, "f32", lambda stage, done: None)
    texts = same = 0
    for prompt in PROMPTS:
        ids = greedy(model, tokenizer, prompt, count)
        written = theirs(simple, path, prompt, count)
        begin = shown(tokenizer, tokenizer.encode(prompt))
        agreed = max(n for n in range(len(ids) + 1) if written.startswith(begin + shown(tokenizer, ids[:n])))
        texts += written == begin + shown(tokenizer, ids)
        same += agreed
    equal = 0
    for text in HARD:
        found = their_ids(tokenize, path, text, folder / "text.txt")
        equal += found == tokenizer.encode(text)
        if found != tokenizer.encode(text):
            print(f"{name}: other tokens for {text!r:.60}")
    return Row(texts, same, equal)


def main() -> None:
    """Compare all models and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llama-simple", default="llama-simple", help="the command, or its path")
    parser.add_argument("--llama-tokenize", default="llama-tokenize", help="the command, or its path")
    parser.add_argument("--tokens", type=int, default=100, help="of each text")
    given = parser.parse_args()
    commands = [shutil.which(name) for name in (given.llama_simple, given.llama_tokenize)]
    simple, tokenize = commands
    if simple is None or tokenize is None:
        parser.error("llama-simple and llama-tokenize must be on the PATH, or their paths be given")
    table = Table("model", "the same greedy text", "tokens that agree", "the same ids")
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            row = agreement(name, simple, tokenize, given.tokens, Path(folder))
            table.add_row(
                name,
                f"{row.texts} of {len(PROMPTS)}",
                f"{row.same_tokens}",
                f"{row.ids} of {len(HARD)} strings",
            )
    Console().print(table)


if __name__ == "__main__":
    main()

"""A small run to do harm to, and the count of what came of it."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mygpt_cli.checkpoints import layout, saving
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.config import RopeScaling
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.tokenizer import Tokenizer
from mygpt_cli.tokens.tokenizer_training import train_tokenizer

MEMORY = Path("/dev/shm")  # where fsync takes no time
# Whatever a configuration can say of rotation and windows, so that it comes to harm.
LLAMA3 = RopeScaling(kind="llama3", factor=8.0, original_context=4)
PARTS: dict[str, dict[str, Any]] = {
    "mistral": {"rope_scaling": LLAMA3, "window": 16, "windowed": (0,), "full_context": 32},
    "smollm3": {"unrotated": (0,), "kv_heads": 1},
}
TEXT = "Once upon a time there was a cat. The cat sat on a mat, and the mat was flat.\n" * 9


def make_run(folder: Path, arch: str = "nanochat", tokenizer: str | Tokenizer = "bpe") -> Path:
    """Save an untrained model as the `best` and `last` of a run, with a tokenizer or one of this kind."""
    known = tokenizer
    if isinstance(known, str):
        known = train_tokenizer(known, [TEXT], end_of_text=True)
    shape: dict[str, Any] = {
        "vocab_size": known.vocab_size,
        "layers": 1,
        "heads": 2,
        "width": 8,
        "context": 16,
    }
    config = configure(arch, **shape, **PARTS.get(arch, {}))
    model = GPT(config).requires_grad_(False)
    model.initialise(torch.Generator().manual_seed(1))
    history = {"step": 7, "seconds": 71.5, "best_step": 6, "best_bits_per_byte": 2.5}
    state = {"format": 1, "step": 7, "steps": 9, "tokens": 700, "text": "0" * 64, "history": history}
    optimizer = {f"muon.{name}": torch.zeros_like(p) for name, p in model.named_parameters()}
    for name in ("best", "last"):
        saving.save(folder / name, model=model, tokenizer=known, state=state, optimizer=optimizer)
    return folder


def vouch_for(folder: Path) -> None:
    """Write a manifest that agrees with the files as they are now, so that they are read at all."""
    manifest = folder / layout.MANIFEST
    names = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    files = {}
    for name in names:
        path = folder / name
        if path.is_file() and path.stat().st_size < 2**28:
            files[name] = {"size": path.stat().st_size, "sha256": layout.sha256(path)}
        else:
            files[name] = names[name]
    manifest.write_text(json.dumps({"format": 1, "files": files}, indent=2), encoding="utf-8")


def copy_of(source: Path, folder: Path) -> Path:
    """Make a folder equal to another one, whatever is there now."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    return folder


@dataclass
class Row:
    """What came of one kind of harm; `slowest` in seconds, `memory` in bytes."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    memory: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, outcome: str, what: str, seconds: float = 0.0, memory: int = 0) -> None:
        """Count one; `unclean` ones are named."""
        self.outcomes[outcome] += 1
        self.slowest, self.memory = max(self.slowest, seconds), max(self.memory, memory)
        if outcome == "unclean":
            self.faults.append(what)


def print_table(rows: dict[str, Row], outcomes: tuple[str, ...]) -> int:
    """Print the counts; return the exit code, 1 when anything was unclean."""
    heads = ("tried", *outcomes, "unclean", "slowest", "memory")
    print(f"{'':28}" + "".join(f"{head:>12}" for head in heads))
    for name, row in rows.items():
        counts = [row.outcomes.total(), *(row.outcomes[outcome] for outcome in (*outcomes, "unclean"))]
        numbers = "".join(f"{count:12,}" for count in counts)
        print(f"{name:28}{numbers}{row.slowest:10.2f} s{row.memory / 2**20:9.0f} MB")
        for fault in row.faults[:8]:
            print(f"    {fault[:300]}")
    return int(any(row.faults for row in rows.values()))

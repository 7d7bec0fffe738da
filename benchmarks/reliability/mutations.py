"""`python -m benchmarks.reliability.mutations [--count 10000]`: hostile checkpoints, file by file.

Each kind of file is changed with regard to its structure, vouched for by the manifest, and opened in a
process that says when anything outside the folder is opened, written or run. So are the files of each kind
of tokenizer that folders from elsewhere have, a tenth as often. A clean end is a CheckpointError, the same
model, or another one that works, without a word on the standard error; in under a second and 200 MB, or in
three seconds where a splitting pattern is refused as too slow. The same `--seed` gives the same files.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.reliability.mutators import (
    mutated_bytes,
    mutated_index,
    mutated_json,
    mutated_lines,
    mutated_tensors,
    mutated_tokenizer,
    replaced,
)
from benchmarks.reliability.samples import MEMORY, Row, copy_of, make_run, print_table, vouch_for
from benchmarks.reliability.tokenizer_folders import TOKENIZERS, make_tokenizer
from mygpt_cli.base.errors import MygptError, TextError
from mygpt_cli.checkpoints import checkpoint, layout
from mygpt_cli.checkpoints.runs import history_of
from mygpt_cli.inspection.summary import summarise
from mygpt_cli.text.corpus import Chunk
from mygpt_cli.tokens.token_files import texts
from mygpt_cli.tokens.tokenizer import Tokenizer

KINDS: tuple[str, ...] = ("model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json")
KINDS += ("training_state.json", "manifest.json", "generation_config.json", layout.INDEX)
SAMPLES = (
    ("nanochat", "bpe"),
    ("gpt2", "char"),
    ("mistral", "bpe"),
    ("qwen2", "bpe"),
    ("qwen3", "bpe"),
    ("smollm3", "bpe"),
)
# Files of a tokenizer, and how often each is changed where it is there.
FILES = {
    "tokenizer.json": 12,
    "vocab.json": 4,
    "merges.txt": 4,
    "tokenizer_config.json": 3,
    "added_tokens.json": 2,
    "special_tokens_map.json": 1,
    "chat_template.jinja": 1,
}
SLOW = "too slow"  # a splitting pattern that was refused as such
SECONDS, SECONDS_IF_SLOW, MEGABYTES, PATIENCE = 1.0, 3.0, 200, 20
TEXTS = ("the cat", "  a1 22 1234\r\n\n\u0301é😀\x00 <s> foo() b▁flat <think>", "it's 12,5" * 200, " " * 3000)
RUNS_CODE = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class")
TOUCHES: tuple[str, ...] = (
    "socket.connect",
    "socket.bind",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.chmod",
    "os.link",
)
TOUCHES += ("os.symlink", "os.truncate", "shutil.rmtree", "ctypes.dlopen")


MUTATORS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    layout.INDEX: mutated_index,
    "tokenizer.json": mutated_tokenizer,
    "merges.txt": mutated_lines,
    "chat_template.jinja": mutated_bytes,
}


def split_up(folder: Path) -> None:
    """Put the weights of a checkpoint into three files with an index; the manifest vouches for them."""
    whole = folder / layout.WEIGHTS
    tensors = load_file(whole)
    places = {name: f"model-0000{n % 3 + 1}-of-00003.safetensors" for n, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == file}, folder / file)
    whole.unlink()
    (folder / layout.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    manifest = folder / layout.MANIFEST
    files = {path.name: None for path in folder.iterdir() if path != manifest}
    manifest.write_text(json.dumps({"format": 1, "files": files}), encoding="utf-8")
    vouch_for(folder)


def harm(folder: Path, kind: str, seed: str) -> str:
    """Do harm to one file; return how, in words."""
    rng = random.Random(seed)
    if kind in TOKENIZERS:
        there = {name: weight for name, weight in FILES.items() if (folder / name).exists()}
        (kind,) = rng.choices(list(there), list(there.values()))
    if kind == layout.INDEX:
        split_up(folder)
    shard = kind == layout.INDEX and rng.random() < 0.3  # one of the files that it names
    path = rng.choice(sorted(folder.glob("model-*"))) if shard else folder / kind
    vouched = rng.random() < 0.9
    if rng.random() < 0.03:
        return f"{kind} {seed}: {replaced(path, rng)}"
    change_it: Callable[[bytes, random.Random], bytes]
    if path.suffix == ".safetensors":
        # A shard whose numbers are turned around may be a model that overflows, and is no broken index.
        change_it = partial(mutated_tensors, numbers=not shard)
    else:
        change_it = MUTATORS.get(kind, mutated_json)
    path.write_bytes(change_it(path.read_bytes(), rng))
    if kind == layout.MANIFEST:
        pass
    elif vouched:
        vouch_for(folder)
    else:  # as a folder from elsewhere
        (folder / layout.MANIFEST).unlink()
        (folder / layout.STATE).unlink(missing_ok=True)
    return f"{kind} {seed}"


def read_texts(tokenizer: Tokenizer) -> None:
    """Read texts as prompts and as training texts are, write them again, and write the tokenizer."""
    for text in TEXTS:
        with contextlib.suppress(TextError):  # one of characters knows only its own
            ids = [*tokenizer.prefix, *tokenizer.encode(text), *tokenizer.suffix]
            assert all(0 <= token < tokenizer.vocab_size for token in ids)
            tokenizer.decode(ids)
    list(texts([Chunk(TEXTS[1] * 3, True)], 10, tokenizer))
    tokenizer.files()
    tokenizer.to_json()


def opened(folder: Path, expected: dict[str, torch.Tensor]) -> str:
    """Open a checkpoint as sample, inspect and resuming do; return what came of it."""
    try:
        loaded = checkpoint.load(folder)
        summarise(loaded)
        logits = loaded.model(torch.zeros(1, 2, dtype=torch.long))
        if not logits.isfinite().all():
            return "unclean: logits that are no numbers"
        read_texts(loaded.tokenizer)
        if loaded.state is not None:
            history_of(loaded.state)
            checkpoint.load_optimizer(folder)
    except MygptError as error:
        if "takes too long" in error.message:
            return SLOW
        return "refused" if error.exit_code in (3, 4) else f"unclean: exit {error.exit_code}: {error.message}"
    found = loaded.model.state_dict()
    same = found.keys() == expected.keys() and all(
        found[name].shape == value.shape and bool((found[name] == value).all())
        for name, value in expected.items()
    )
    return "equal" if same else "another"


class Watch:
    """Says what a process does that opening a checkpoint must not do."""

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[str] = []
        self._allowed: tuple[str, ...] = (
            sys.prefix,
            sys.base_prefix,
            "/proc",
            str(Path(torch.__file__).parent),
        )
        self._allowed += (str(Path(__file__).parents[2]), "/usr/share/zoneinfo")
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at an event of the interpreter."""
        if not self.folder:
            return
        if event in RUNS_CODE or event in TOUCHES:
            self.seen.append(f"{event} {arguments!r:.100}")
        elif event == "open" and isinstance(arguments[0], str | bytes) and arguments[0] != os.devnull:
            path = os.path.realpath(os.fsdecode(arguments[0]))
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            inside = path.startswith(self.folder)
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or not (
                inside or path.startswith(self._allowed)
            ):
                self.seen.append(f"open {path}")


def peak() -> int:
    """Return the most memory, in bytes, that this process has ever taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def work(
    good: Path, kind: str, seed: str, numbers: range, out: int, expected: dict[str, torch.Tensor]
) -> None:
    """Try some mutations and write a line about each."""
    watch = Watch()
    folder = good.with_name("tried")
    said = os.open(good.with_name("stderr"), os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 2)
    opened(good, expected)  # once before, since a new process has most of the libraries still to be read
    usual, seen = peak(), os.fstat(said).st_size
    for number in numbers:
        copy_of(good, folder)
        what = harm(folder, kind, f"{seed}-{number}")
        os.write(out, f"{json.dumps([number, what])}\n".encode())
        signal.alarm(PATIENCE)
        begin = time.perf_counter()
        watch.folder, watch.seen = str(good.parent), []
        try:
            outcome = opened(folder, expected)
        except BaseException as fault:
            outcome = f"unclean: {type(fault).__name__}: {fault!s:.200}"
        watch.folder = ""
        seconds = time.perf_counter() - begin
        more = peak() - usual
        signal.alarm(0)
        before, seen = seen, os.fstat(said).st_size
        if watch.seen:
            outcome = f"unclean: {watch.seen[0]}"
        elif seen > before:
            outcome = f"unclean: {os.pread(said, 200, before)!r}"
        elif seconds > (SECONDS_IF_SLOW if outcome == SLOW else SECONDS) or more > MEGABYTES * 2**20:
            outcome = f"unclean: {seconds:.1f} s, {more / 2**20:.0f} MB"
        os.write(out, f"{json.dumps([number, what, outcome, seconds, more])}\n".encode())
        if more > MEGABYTES * 2**20:
            return  # to a new process, whose peak is not that high


def try_kind(good: Path, kind: str, seed: str, count: int, row: Row) -> None:
    """Try mutations of one kind of file, in processes that may come to harm."""
    expected = checkpoint.load(good).model.state_dict()
    assert opened(good, expected) == "equal"
    number = 0
    while number < count:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            work(good, kind, seed, range(number, min(number + 500, count)), writer, expected)
            os._exit(0)
        os.close(writer)
        begun = ""
        with os.fdopen(reader, encoding="utf-8") as lines:
            for line in lines:
                number, what, *result = json.loads(line)
                begun = what
                if result:
                    outcome, seconds, memory = result
                    word, _, why = outcome.partition(": ")
                    row.add(word, f"{what}: {why}", seconds, memory)
                    begun = ""
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if begun or code:
            row.add("unclean", f"{begun}: exit {code}")
        number += 1


def main() -> int:
    """Try the mutations and print the table; the exit code is 1 when anything was unclean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="mutations of each kind of file")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", choices=(*KINDS, *TOKENIZERS), nargs="+", default=[*KINDS, *TOKENIZERS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        for kind in options.only:
            row = rows.setdefault(kind, Row())
            if kind in TOKENIZERS:
                arch, tokenizer = make_tokenizer(Path(folder, "files", kind), kind)
                good = make_run(Path(folder, kind), arch, tokenizer) / "best"
                try_kind(good, kind, f"{options.seed}-{kind}", options.count // 10, row)
                continue
            for arch, own in SAMPLES:
                good = make_run(Path(folder, arch), arch, own) / "best"
                try_kind(good, kind, f"{options.seed}-{arch}", options.count // len(SAMPLES), row)
    return print_table(rows, ("refused", SLOW, "equal", "another"))


if __name__ == "__main__":
    sys.exit(main())

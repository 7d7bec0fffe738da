"""`python -m benchmarks.reliability.mutations [--count 10000]`: hostile checkpoints, file by file.

Each kind of file is changed with regard to its structure, vouched for by the manifest, and opened in a
process that says when anything outside the folder is opened, written or run. A clean end is a
CheckpointError, the same model, or another one that works; in under a second and 200 MB.
The same `--seed` gives the same files.
"""

import argparse
import copy
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

from benchmarks.reliability.samples import MEMORY, Row, copy_of, make_run, print_table, vouch_for
from mygpt_cli.base.errors import MygptError
from mygpt_cli.checkpoints import checkpoint, layout
from mygpt_cli.checkpoints.hub import CONFIG
from mygpt_cli.checkpoints.runs import history_of
from mygpt_cli.inspection.summary import summarise

KINDS: tuple[str, ...] = ("model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json")
KINDS += ("training_state.json", "manifest.json", "generation_config.json", layout.INDEX)
SECONDS, MEGABYTES, PATIENCE = 1.0, 200, 20
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


class Pairs(list[Any]):
    """A JSON object that may have a key twice."""


EVIL: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, -(2**31), 2**31 - 1, 2**31, 2**53, 2**63, 2**64, 10**30, 10**400, 0.5),
    *(
        -0.0,
        1e308,
        -1e308,
        5e-324,
        float("nan"),
        float("inf"),
        -float("inf"),
        10**18,
        65536,
        262144,
        1_000_000,
    ),
    *(
        "",
        "a",
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "a/b",
        "C:\\x",
        "\x00",
        "\x1b[31m",
        "\u202e",
        "\ud800",
    ),
    *("é" * 300, "x" * 200_000, "(a+)+$" * 50, "(?=\\w{200})" * 300, "(" * 4000, "\\p{L}{900}" * 300, "[["),
    *("gpt2", "llama", "BPE", "F8_E4M3", "I64", "BOOL", "__proto__", "__metadata__", "{}", "%s%n", "[bold]x"),
    *([], [0], [[]], [0, 0], [1] * 50_000, [2**62, 4], [-1, -1], [0] * 100, {}, {"a": 1}, [None], ["a", "b"]),
]


def parsed(raw: bytes) -> Any:
    """Return JSON with its objects as pairs."""
    return json.loads(raw, object_pairs_hook=Pairs)


def dumped(value: Any) -> str:
    """Write JSON as it is, with double keys and numbers that are none."""
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {dumped(part)}" for key, part in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dumped, value)) + "]"
    return json.dumps(value)


def places(value: Any) -> list[tuple[Any, int]]:
    """Return every place in a document: a container and an index in it; large containers give a few."""
    found, left = [], [value]
    while left:
        holder = left.pop()
        for index, part in list(enumerate(holder))[:: max(1, len(holder) // 60)]:
            found.append((holder, index))
            inner = part[1] if isinstance(holder, Pairs) else part
            if isinstance(inner, list):
                left.append(inner)
    return found


def change(document: Any, rng: random.Random) -> None:
    """Change one place of a document."""
    holder, index = rng.choice(places(document) or [(document, 0)])
    if not holder:
        holder.append(("a", 1) if isinstance(holder, Pairs) else 1)
        return
    is_object = isinstance(holder, Pairs)
    key, value = holder[index] if is_object else ("", holder[index])

    def put(new: Any) -> None:
        holder[index] = (key, new) if is_object else new

    how = rng.randrange(9)
    if how == 0:
        del holder[index]
    elif how == 1:
        holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[index]))
    elif how == 2 and is_object:
        holder[index] = (rng.choice([e for e in EVIL if isinstance(e, str)]), value)
    elif how == 3:
        deep: Any = value
        for _ in range(rng.choice((1, 3, 50, 900, 1500))):
            deep = [deep] if rng.random() < 0.5 else Pairs([("a", deep)])
        put(deep)
    elif how == 4 and type(value) is int:
        put(value + rng.choice((-1, 1, 2, -8, 8, 2**20, 2**31, 2**40, -2 * value)))
    elif how == 5:
        other, at = rng.choice(places(document))
        if at < len(other):
            part = copy.deepcopy(other[at])  # or it might come to hold itself
            put(part[1] if isinstance(other, Pairs) else part)
    elif how == 6 and isinstance(value, str):
        put(value + rng.choice(("\x00", "\ud800", "../", "😀", "x" * 10_000, " ")))
    else:
        new = copy.deepcopy(rng.choice(EVIL))
        put(Pairs(new.items()) if isinstance(new, dict) else new)


def mutated_json(raw: bytes, rng: random.Random) -> bytes:
    """Change a JSON file in a few places, or as a text."""
    if rng.random() < 0.15:
        return mutated_bytes(raw, rng)
    document = parsed(raw)
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            change(document, rng)
        return dumped(document).encode("utf-8", "surrogatepass")
    except RecursionError:  # nested into itself
        return b'{"a":' * 50_000


def mutated_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Change a file as bytes."""
    at = rng.randrange(len(raw))
    return rng.choice(
        (
            lambda: raw[:at],
            lambda: raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :],
            lambda: raw[:at] + raw[at : at + 64] + raw[at:],
            lambda: raw + rng.choice((b" ", b"\x00" * 4096, raw)),
            lambda: (
                rng.choice((b"\xef\xbb\xbf", b"[" * 100_000, b'{"a":' * 100_000, b"\x80\x04", b"PK\x03\x04"))
                + raw
            ),
            lambda: b"",
        )
    )()


def mutated_tensors(raw: bytes, rng: random.Random, *, numbers: bool = True) -> bytes:
    """Change the header of a safetensors file, its length, or its numbers."""
    length = int.from_bytes(raw[:8], "little")
    header, body = raw[8 : 8 + length], raw[8 + length :]
    how = rng.random()
    if how < 0.1:
        lie = rng.choice((0, 1, length - 1, length + 1, length + len(body), 10**8, 2**40, 2**63, 2**64 - 1))
        return lie.to_bytes(8, "little") + header + body
    if how < 0.2 and numbers:
        body = rng.choice((b"", body[:-4], body + b"\x00" * 8, b"\xff" * len(body), body[::-1]))
    elif how < 0.5:  # a tensor with other offsets, shape or type, consistent with nothing
        document = parsed(header)
        named = [entry for entry in document if entry[0] != "__metadata__"]
        _, entry = rng.choice(named)
        number = rng.choice((0, 1, 3, 8, 2**20, 2**31, 2**32, 2**61, 2**63, 2**64, -1))
        part = rng.choice(("data_offsets", "shape", "dtype"))
        for index, (key, value) in enumerate(entry):
            if key == part and part == "dtype":
                entry[index] = (
                    key,
                    rng.choice(("F64", "F16", "BF16", "I32", "F8_E5M2", "BOOL", "F4", "C64", "U64")),
                )
            elif key == part:
                value[rng.randrange(len(value))] = number
                if rng.random() < 0.3:
                    value.insert(0, number)
        header = dumped(document).encode("utf-8", "surrogatepass")
    else:
        header = mutated_json(header, rng)
    if rng.random() < 0.3:
        header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def replaced(path: Path, rng: random.Random) -> str:
    """Put something in the place of a file that is none; return what."""
    what = rng.choice(
        ("link", "link inside", "device", "endless", "circle", "pipe", "folder", "sparse", "none")
    )
    raw = path.read_bytes()
    path.unlink()
    if what == "link":
        path.symlink_to("/etc/passwd")
    elif what == "link inside":
        path.with_name("other").write_bytes(raw)
        path.symlink_to("other")
    elif what in ("device", "endless"):
        path.symlink_to("/dev/null" if what == "device" else "/dev/zero")
    elif what == "circle":
        path.symlink_to(path.name)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "sparse":
        path.write_bytes(raw)
        os.truncate(path, 2**40)
    return what


def mutated_index(raw: bytes, rng: random.Random) -> bytes:
    """Change an index: as JSON, or in what it says of a file."""
    if rng.random() < 0.5:
        return mutated_json(raw, rng)
    index = json.loads(raw)
    names = index["weight_map"]
    name, other = rng.sample(sorted(names), 2)
    names[name] = rng.choice(
        (
            names[other],
            f"../best/{names[name]}",
            f"{rng.choice(('/', './', 'C:', '~'))}{names[name]}",
            layout.OPTIMIZER,
            CONFIG,
            *(evil for evil in EVIL if isinstance(evil, str)),
        )
    )
    if rng.random() < 0.3:
        names |= {
            f"x{n}": rng.choice((f"{n}.safetensors", names[other])) for n in range(rng.choice((1, 99, 9999)))
        }
    if rng.random() < 0.3:
        del names[other]
    return json.dumps(index).encode("utf-8", "surrogatepass")


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
        change_it = mutated_index if kind == layout.INDEX else mutated_json
    path.write_bytes(change_it(path.read_bytes(), rng))
    if kind == layout.MANIFEST:
        pass
    elif vouched:
        vouch_for(folder)
    else:  # as a folder from elsewhere
        (folder / layout.MANIFEST).unlink()
        (folder / layout.STATE).unlink(missing_ok=True)
    return f"{kind} {seed}"


def opened(folder: Path, expected: dict[str, torch.Tensor]) -> str:
    """Open a checkpoint as sample, inspect and resuming do; return what came of it."""
    try:
        loaded = checkpoint.load(folder)
        summarise(loaded)
        logits = loaded.model(torch.zeros(1, 2, dtype=torch.long))
        if not logits.isfinite().all():
            return "unclean: logits that are no numbers"
        loaded.tokenizer.decode(loaded.tokenizer.encode("the cat"))
        if loaded.state is not None:
            history_of(loaded.state)
            checkpoint.load_optimizer(folder)
    except MygptError as error:
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
        elif event == "open" and isinstance(arguments[0], str | bytes):
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
    opened(good, expected)  # once before, since a new process has most of the libraries still to be read
    usual = peak()
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
        if watch.seen:
            outcome = f"unclean: {watch.seen[0]}"
        elif seconds > SECONDS or more > MEGABYTES * 2**20:
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
    parser.add_argument("--only", choices=KINDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        samples = [("nanochat", "bpe"), ("gpt2", "char"), ("mistral", "bpe"), ("smollm3", "bpe")]
        for kind in KINDS if options.only is None else (options.only,):
            row = rows.setdefault(kind, Row())
            for arch, tokenizer in samples:
                good = make_run(Path(folder, arch), arch, tokenizer) / "best"
                try_kind(good, kind, f"{options.seed}-{arch}", options.count // len(samples), row)
    return print_table(rows, ("refused", "equal", "another"))


if __name__ == "__main__":
    sys.exit(main())

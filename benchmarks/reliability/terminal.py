"""`python -m benchmarks.reliability.terminal [--every 1]`: text never commands the terminal.

Sixty payloads are put into prompts, training texts, token strings, names of files and runs, settings from
flags, variables and recipes, damaged checkpoints and metrics, and taken through every command and view, on a
terminal and on pipes, and into HTML and SVG. Nothing may come out that a terminal or a browser acts on. Left
out is what is exact by promise: on a pipe, the text of `mygpt sample` and the folder that training prints.
"""

import argparse
import json
import os
import pty
import re
import shutil
import sys
import tempfile
import traceback
import tty
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.reliability.commands import TINY, use_cache_of
from benchmarks.reliability.payloads import PAYLOADS, active, active_in_page, active_on_terminal
from benchmarks.reliability.samples import MEMORY, Row, print_table
from mygpt_cli.checkpoints import layout, saving
from mygpt_cli.cli.app import run
from mygpt_cli.model.architectures import configure
from mygpt_cli.model.gpt import GPT
from mygpt_cli.tokens.tokenizer import BytePairTokenizer
from mygpt_cli.tokens.tokenizer_json import BytePairVocabulary

PAGES = ("page.html", "picture.svg")
MARK = "\n@@@@ {} @@@@\n"
VIEWS: list[list[str]] = [
    *([], ["--temperatures", "0.5,1"], ["--life"], ["--lens"], ["--attention"], ["--tokens"], ["--copied"]),
    *(["--explain"], ["--life", "--explain"], ["--steps", "2", "--top", "400"], ["--compare", "base"]),
]


@dataclass
class Case:
    """One command, what of it is under trial, and whether its stdout is exact by promise on a pipe."""

    row: str
    arguments: list[str]
    env: dict[str, str] = field(default_factory=dict)
    exact: bool = False


def speak(folder: Path, cases: Sequence[Case], *, terminal: bool) -> list[tuple[bytes, bytes]]:
    """Run commands in a process of their own; return stdout and stderr of each, one stream on a terminal."""
    sys.stdout.flush()
    files = [folder / "stdout.txt", folder / "stderr.txt"]
    process, screen = pty.fork() if terminal else (os.fork(), -1)
    if not process:
        try:
            os.chdir(folder)
            use_cache_of(folder)
            if terminal:
                tty.setraw(1)
                os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "110"})
            else:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                for number, path in enumerate(files, 1):
                    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            converse(cases)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    if terminal:
        shown = b""
        try:
            while part := os.read(screen, 65536):
                shown += part
        except OSError:  # the end, on Linux
            pass
        os.close(screen)
    os.waitpid(process, 0)
    streams = [shown, b""] if terminal else [path.read_bytes() for path in files]
    parts = [re.split(rb"\n@@@@ \d+ @@@@\n", stream)[1:] or [b""] * len(cases) for stream in streams]
    return list(zip(*parts, strict=True))


def converse(cases: Sequence[Case]) -> None:
    """Run each command and write marks between them; say what ended as no command should."""
    for number, case in enumerate(cases):
        sys.stdin, sys.stdout, sys.stderr = (
            open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
            for descriptor, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        for descriptor in (1,) if os.isatty(1) else (1, 2):
            os.write(descriptor, MARK.format(number).encode())
        before = dict(os.environ)
        os.environ.update(case.env)
        code = run(case.arguments)
        os.environ.clear()
        os.environ.update(before)
        for page in filter(Path.exists, map(Path, PAGES)):
            page.rename(f"{number}-{page}")
        sys.stderr.write(f"\n\x00exit {code}\n" if code not in (0, 2, 3, 4, 5) else "")
        sys.stdout.flush()
        sys.stderr.flush()


def save_tokens(folder: Path, payload: str) -> None:
    """Save an untrained model that has the payload as one token, and another as a special one."""
    whole = payload.encode("utf-8", "replace")
    ranks = {bytes([byte]): byte for byte in range(256)}
    for end in range(2, len(whole) + 1):
        ranks.setdefault(whole[:end], len(ranks))
    vocabulary = BytePairVocabulary(ranks, r"[\s\S]+", {f"{whole.decode()}!": len(ranks)})
    config = configure("gpt2", vocab_size=len(ranks) + 1, layers=1, heads=2, width=8, context=64)
    model = GPT(config).requires_grad_(False)
    model.initialise(torch.Generator().manual_seed(1))
    saving.save(folder, model=model, tokenizer=BytePairTokenizer(vocabulary, "bpe"), state={})


def prepare_base(folder: Path) -> None:
    """Train a small run on plain text, to be copied for each payload."""
    (folder / "plain.txt").write_text(
        "".join(f"{n} and {n} make {2 * n}.\n" for n in range(90)), encoding="utf-8"
    )
    speak(folder, [Case("", ["train", "plain.txt", *TINY, "--steps", "3", "--name", "base"])], terminal=True)
    shutil.copytree(folder / "checkpoints" / "base-001", folder / "base")


def cases_for(folder: Path, payload: str) -> list[Case]:
    """Lay out a folder with a payload everywhere, and return the commands that meet it."""
    name = re.sub("[/\x00]", "_", payload).encode("utf-8", "surrogateescape")[:200].decode("utf-8", "ignore")
    text = f"{payload} is {payload}, and so it goes on.\n" * 40
    for path in (folder / f"{name}.txt", folder / f"text-{name}" / "in.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / f"text-{name}" / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "prompt.txt").write_text(payload, encoding="utf-8")
    quoted = json.dumps(payload)
    (folder / "values.toml").write_text(
        f"arch = {quoted}\nname = {quoted}\ntokenizer = {quoted}\n", encoding="utf-8"
    )
    (folder / "keys.toml").write_text(f"{quoted} = 1\n", encoding="utf-8")
    save_tokens(folder / "tokens", payload)
    for part, change in (("config.json", '"model_type": "gpt2"'), ("tokenizer.json", '"type": "BPE"')):
        shutil.copytree(folder / "tokens", folder / f"bad-{part}")
        (folder / f"bad-{part}" / layout.MANIFEST).unlink()
        (folder / f"bad-{part}" / layout.STATE).unlink()
        path = folder / f"bad-{part}" / part
        path.write_text(
            path.read_text(encoding="utf-8").replace(change, f"{change.split(':')[0]}: {quoted}"),
            encoding="utf-8",
        )
    told = folder / f"run-{name}"
    shutil.copytree(folder / "base", told)
    events = [
        {"event": "noted", "step": 2, "text": payload},
        {"event": "finished", "step": 3, "reason": payload},
    ]
    with (told / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
    contents = json.loads((told / "text.json").read_text(encoding="utf-8"))
    contents["files"][0] |= {"name": payload, "sha256": "0" * 64}
    (told / "text.json").write_text(json.dumps(contents), encoding="utf-8")
    return [*of_training(folder, name, payload), *of_sampling(payload), *of_inspecting(name, payload)]


def of_training(folder: Path, name: str, payload: str) -> list[Case]:
    """Return what trains, or cannot."""
    tiny = [*TINY, "--steps", "2", "--tokenizer", "char"]
    wrong = [
        "--arch",
        "--preset",
        "--config",
        "--tokenizer",
        "--dtype",
        "--time",
        "--lr",
        "--name",
        "--val-file",
    ]
    return [
        Case("training text", ["train", f"{name}.txt", *tiny, "--name", "mine"]),
        Case("training text", ["train", f"{name}.txt", *tiny, "--json", "--name", "mine"]),
        Case("file names", ["train", f"text-{name}", "plain.txt", *tiny, "--dry-run"]),
        Case("file names", ["train", f"no-{name}"]),
        Case("run names", ["train", "plain.txt", *tiny, "--out", f"out-{name}"], exact=True),
        Case("run names", ["train", "--resume", f"run-{name}", "--steps", "9"], exact=True),
        Case("run names", ["train", "--resume", f"no-{name}"]),
        *(Case("flags", ["train", "plain.txt", flag, payload]) for flag in wrong),
        Case("flags", ["train", "plain.txt", f"--{payload}"]),
        Case("flags", [payload]),
        Case("variables", ["train", "plain.txt"], {"MYGPT_ARCH": name, "MYGPT_NAME": name, "MYGPT_LR": name}),
        Case("recipes", ["train", "plain.txt", "--config", "values.toml"]),
        Case("recipes", ["train", "plain.txt", "--config", "keys.toml"]),
    ]


def of_sampling(payload: str) -> list[Case]:
    """Return what samples, or cannot."""
    short = ["--max-new-tokens", "20", "--seed", "1"]
    cases = [
        *(
            Case("prompts", ["sample", where, "--prompt", payload, *short], exact=True)
            for where in ("mine", "tokens")
        ),
        Case(
            "prompts",
            ["sample", "mine", "--prompt-file", "prompt.txt", "--num-samples", "2", *short],
            exact=True,
        ),
        Case("prompts", ["sample", "tokens", "--prompt", payload, "--show-probs", *short], exact=True),
        Case("prompts", ["sample", "tokens", "--prompt", payload, "--json", "--show-probs", *short]),
        Case("prompts", ["sample", "base", "--prompt", payload, *short], exact=True),
        Case("run names", ["sample", f"no-{payload}"]),
    ]
    for flag in ("--stop", "--ban", "--begin-with", "--filters", "--logit-bias", "--quantize", "--device"):
        value = f"{payload}=1" if flag == "--logit-bias" else payload
        cases.append(Case("flags", ["sample", "tokens", "--prompt", "a", flag, value, *short], exact=True))
    return cases


def of_inspecting(name: str, payload: str) -> list[Case]:
    """Return what inspects, or cannot; each view goes into files as well."""
    files = ["--html", PAGES[0], "--svg", PAGES[1]]
    cases = [
        Case("run names", ["inspect", f"run-{name}", *files]),
        Case("token strings", ["inspect", "tokens"]),
    ]
    for view in VIEWS:
        where = "mine" if view == ["--copied"] else "tokens"
        cases.append(Case("token strings", ["inspect", where, "--prompt", payload, *view, *files]))
    cases += [
        Case("prompts", ["inspect", "tokens", "--prompt", payload, "--json"]),
        Case("file names", ["inspect", "mine", "--text", f"{name}.txt", *files]),
        Case("file names", ["inspect", "mine", "--text", f"no-{name}"]),
        Case("run names", ["inspect", f"run-{name}", "--compare", "tokens", *files]),
        *(Case("damaged files", ["inspect", f"bad-{part}"]) for part in ("config.json", "tokenizer.json")),
        Case("flags", ["inspect", "tokens", "--prompt", "a", "--temperatures", payload]),
    ]
    return cases


def judged(case: Case, out: bytes, err: bytes, payload: str, *, terminal: bool) -> str:
    """Return what of a command's output acts on whoever reads it, or an empty string."""
    if terminal:
        return active_on_terminal(out, [payload])
    text = "" if case.exact else out.decode("utf-8", "surrogateescape")
    return active(text + err.decode("utf-8", "surrogateescape"))


def try_payload(parent: Path, base: Path, payload: str, rows: dict[str, Row]) -> None:
    """Take one payload through everything, on a terminal and on pipes."""
    for terminal in (True, False):
        with tempfile.TemporaryDirectory(dir=parent) as path:
            folder = Path(path)
            shutil.copytree(base, folder, dirs_exist_ok=True)
            (folder / "checkpoints" / "base-001").rename(folder / "checkpoints" / "x")
            cases = cases_for(folder, payload)
            (folder / "mine").symlink_to("checkpoints/mine-001")
            for number, (case, spoken) in enumerate(
                zip(cases, speak(folder, cases, terminal=terminal), strict=True)
            ):
                what = f"{payload!r} in {' '.join(map(ascii, case.arguments))}"
                why = judged(case, *spoken, payload, terminal=terminal)
                rows.setdefault(case.row, Row()).add("unclean" if why else "inert", f"{what}: {why}")
                for page in filter(Path.exists, (folder / f"{number}-{name}" for name in PAGES)):
                    why = active_in_page(page.read_text(encoding="utf-8"))
                    rows.setdefault(page.suffix, Row()).add("unclean" if why else "inert", f"{what}: {why}")


def main() -> int:
    """Try them all and print the table; the exit code is 1 when anything was active."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="try only every n-th payload")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        base = Path(name, "plain")
        base.mkdir()
        prepare_base(base)
        for payload in PAYLOADS[:: options.every]:
            try_payload(Path(name), base, payload, rows)
    return print_table(rows, ("inert",))


if __name__ == "__main__":
    sys.exit(main())

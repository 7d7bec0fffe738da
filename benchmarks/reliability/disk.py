"""`python -m benchmarks.reliability.disk [--every 1]`: kills and failing disks at every call of a save.

`faults.c` stands between the process and its file system. A save is killed at each of its calls, and each of
them fails with ENOSPC, EIO and EROFS, once or from then on; so does a whole training. Each time the run is
then resumed, and must end with the very bits of a run that nothing happened to. Linux with a C compiler.
"""

import argparse
import ctypes
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.reliability.commands import TINY, mygpt, said, write_text
from benchmarks.reliability.samples import MEMORY
from mygpt_cli.base.errors import MygptError, ResourceError
from mygpt_cli.base.randomness import derive
from mygpt_cli.checkpoints import checkpoint, layout, metrics, runs
from mygpt_cli.checkpoints.runs import Run, history_of
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.sources import from_file
from mygpt_cli.config.train import TrainConfig
from mygpt_cli.model.gpt import GPT
from mygpt_cli.text.corpus import open_corpus
from mygpt_cli.tokens.dataset import Dataset, prepare
from mygpt_cli.training.events import CheckpointDue, Noted
from mygpt_cli.training.trainer import Trainer

PRELOADED = "MYGPT_FAULTS"
LOST = 99  # exit code of a child in which something broke
SETTINGS = ["--steps", "6", "--eval-every", "2", "--save-every", "2", "--dropout", "0.1", "--patience", "0"]
SETTINGS += ["--tokenizer", "char", "--dtype", "float32"]
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}


@dataclass
class Row:
    """What came of one kind of fault."""

    tried: int = 0
    resumed: int = 0
    before: int = 0  # of these, from the checkpoint before
    faults: list[str] = field(default_factory=list)


class Trial:
    """A run of a few steps, to be saved again and again from the same state."""

    def __init__(self, folder: Path) -> None:
        import torch

        text = write_text(folder)
        if mygpt(folder, "train", text, *TINY, *SETTINGS, "--name", "planned"):
            raise AssertionError(said(folder))
        planned: Settings = {"vocab_size": None}
        planned |= from_file(folder / "checkpoints" / "planned-001" / metrics.RUN_CONFIG)
        self.config = TrainConfig(**planned)
        corpus = open_corpus([str(text)])
        self.dataset: Dataset = prepare(corpus, tokenizer="char", cache=folder / "cache")
        torch.set_num_threads(1)
        self.folder = folder
        self.start = Run.create(folder, "start", self.config)
        self.trainer = self.new_trainer()
        events = runs.train(self.start, self.trainer, lambda: None)
        while self.trainer.history.step < 3:  # saved at step 2, and one step further
            next(events)
        whole = Run.create(folder, "whole", self.config)
        list(runs.train(whole, self.new_trainer()))
        self.expected = weights_of(whole.folder)

    def new_trainer(self) -> Trainer:
        """Return a trainer at the start."""
        import torch

        model = GPT(self.config.model(self.dataset.tokenizer.vocab_size))
        model.initialise(torch.Generator().manual_seed(derive(self.config.seed, "weights")))
        return Trainer(self.config, self.dataset, model)

    def save(self, folder: Path) -> int:
        """Save step 3 into a copy of the run; 5 when the disk failed and was said to."""
        try:
            due = CheckpointDue(step=self.trainer.history.step, best=True, last=False, keep=False)
            list(Run(folder).save(self.trainer, due))
        except ResourceError:
            return 5
        return 0

    def train(self, folder: Path) -> int:
        """Train anew into a folder; 5 when the disk failed at the end."""
        run = Run(folder)
        try:
            told = [event for event in runs.train(run, self.new_trainer()) if isinstance(event, Noted)]
        except ResourceError:
            return 5
        return 6 if told else 0

    def resume(self, folder: Path) -> int:
        """Go on from what is on the disk, to the end; return the step it went on from."""
        last = checkpoint.load(folder, prefer=("last",))
        config = replace(self.config, **from_file(folder / metrics.RUN_CONFIG))
        trainer = Trainer(config, self.dataset, last.model, history_of(last.state))
        trainer.load_state(checkpoint.load_optimizer(last.folder))
        step = trainer.history.step
        run = Run(folder)
        run.forget_after(step)
        list(runs.train(run, trainer))
        if weights_of(folder) != self.expected:
            raise AssertionError("the resumed run ends with other weights")
        left = [e.name for e in folder.iterdir() if e.suffix in (".new", ".old")]
        if left and step < config.steps:
            raise AssertionError(f"{left} are left over")
        return step


def weights_of(run: Path) -> list[str]:
    """Return the digests of a run's end."""
    names = ("last/model.safetensors", "last/optimizer.safetensors")
    return [hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names]


def in_child(work: Callable[[], int]) -> int:
    """Do it in a process of its own; return its exit code, or minus the signal that ended it."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = LOST
        try:
            code = work()
        except BaseException as fault:
            sys.stderr.write(f"{type(fault).__name__}: {fault}\n")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tried(trial: Trial, what: str, fault: int, *, stays: bool, every: int, row: Row) -> None:
    """Let a save, or a training, go wrong at every `every`-th of its calls."""
    library = ctypes.CDLL(os.environ[PRELOADED])
    work = {"save": trial.save, "train": trial.train}[what]
    at = 1
    while True:
        run = trial.folder / "tried"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(trial.start.folder, run)
        if what == "train":
            for name in ("last", "best"):
                shutil.rmtree(run / name)
            (run / metrics.METRICS).unlink()

        def struck(run: Path = run, at: int = at) -> int:
            library.faults_arm(str(run).encode(), at, fault, stays)
            code = work(run)
            reached = library.faults_seen() >= at
            library.faults_arm(b"", 0, 0, 0)
            left = [entry.name for entry in run.iterdir() if entry.suffix == ".new"]
            if code and left and not stays:
                raise AssertionError(f"{left} are left over")
            return code if reached else 10

        code = in_child(struck)
        if code == 10:
            return
        row.tried += 1
        if code == LOST or (fault and code < 0) or (not fault and code != -signal.SIGKILL):
            row.faults.append(f"{what}, call {at}: exit {code}")
        saved = (run / "last").exists() or (run / "last.new").exists() or (run / "last.old").exists()
        if saved or what == "save":
            try:
                row.before += trial.resume(run) == 2
                row.resumed += 1
            except (MygptError, OSError, AssertionError) as error:
                # A first save that never ended leaves nothing to go on from, and that is said.
                if what == "save" or layout.is_complete(run / "last"):
                    row.faults.append(f"{what}, call {at}: {error}")
        at += every


def preload() -> None:
    """Start this command again with `faults.c` in front of the system's library."""
    folder = tempfile.mkdtemp(prefix="mygpt-faults-")
    library = f"{folder}/faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, str(source), "-ldl"], check=True)
    environment = {"LD_PRELOAD": library, PRELOADED: library, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.reliability.disk", *sys.argv[1:]]
    try:
        sys.exit(subprocess.run(command, env=os.environ | environment, check=False).returncode)
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Run the trials and print the table; the exit code is 1 when anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="try only every n-th call")
    parser.add_argument("--only", choices=("save", "train"), help="leave the other out")
    options = parser.parse_args()
    if PRELOADED not in os.environ:
        preload()
    rows: dict[str, Row] = {}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        trial = Trial(Path(folder))
        cases = [("save", "SIGKILL", 0, False)]
        cases += [("save", name, code, stays) for name, code in FAULTS.items() for stays in (False, True)]
        cases += [("train", "SIGKILL", 0, False)]
        cases += [("train", name, code, False) for name, code in FAULTS.items()]
        for what, name, code, stays in cases:
            if options.only in (None, what):
                title = f"{what}: {name}" + (" from then on" if stays else "")
                row = rows.setdefault(title, Row())
                tried(trial, what, code, stays=stays, every=options.every, row=row)
    print(f"{'':28} {'tried':>7} {'resumed':>8} {'from before':>12} {'lost':>6}")
    for title, row in rows.items():
        print(f"{title:28} {row.tried:7} {row.resumed:8} {row.before:12} {len(row.faults):6}")
        for fault in row.faults[:5]:
            print(f"    {fault}")
    print(f"{time.perf_counter() - started:.0f} s")
    return int(any(row.faults for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())

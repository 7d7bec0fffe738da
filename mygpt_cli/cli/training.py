"""What starting a run and resuming one share: the text, the preparation, and training to its end."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import typer

from mygpt_cli.base.errors import (
    LostProcessError,
    ResourceError,
    UsageError,
)
from mygpt_cli.base.processes import Processes
from mygpt_cli.config.settings import Settings

if TYPE_CHECKING:
    from mygpt_cli.checkpoints.checkpoint import Checkpoint
    from mygpt_cli.checkpoints.runs import Run
    from mygpt_cli.model.config import ModelConfig
    from mygpt_cli.text.corpus import Corpus
    from mygpt_cli.tokens.dataset import Dataset
    from mygpt_cli.training.events import Sampled
    from mygpt_cli.training.preparation import Preparation
    from mygpt_cli.training.trainer import Trainer
    from mygpt_cli.ui.train import Reporter

LOOKED_AT = 20_000  # tokens of the validation text, to see how its lines begin
LONGEST = 12  # letters of a word to begin with


def check_tensorboard_setting(settings: Settings) -> None:
    """Raise UsageError when TensorBoard is wanted and is not installed."""
    if settings.get("tensorboard"):
        from mygpt_cli.ui.tensorboard import check_tensorboard

        check_tensorboard()


def prepare(
    settings: Settings,
    corpus: "Corpus",
    report: "Reporter",
    start: "Checkpoint | str | None",
    processes: Processes,
) -> "Preparation":
    """Prepare training, compiling what it needs while torch loads.

    It starts from a folder, or resumes a checkpoint.
    """
    from mygpt_cli.backends.cpu.native import build_training_ahead
    from mygpt_cli.tokens.dataset import cache_folder

    compiles = settings.get("compile", "auto") != "off" and not settings.get("shard")
    if compiles and settings.get("device", "auto") in ("auto", "cpu"):
        build_training_ahead(settings.get("dtype", "auto"), cache_folder() / "kernels")

    from mygpt_cli.checkpoints.checkpoint import load
    from mygpt_cli.training.preparation import Preparation

    if start is None or isinstance(start, str):
        begun = load(Path(start), is_mapped=_keep_to_train(settings)) if start else None
        return Preparation(settings, corpus, report.busy, begun, processes=processes)
    return Preparation(settings, corpus, report.busy, start, resumed=True, processes=processes)


def _keep_to_train(settings: Settings) -> "Callable[[ModelConfig, int], bool]":
    """Return what refuses a model that fits into memory to be read, and not to be trained further."""
    from mygpt_cli.base.devices import pick_device
    from mygpt_cli.checkpoints.memory import count_weights, keep_whole
    from mygpt_cli.training.memory import check_start

    def is_mapped(config: "ModelConfig", free: int) -> bool:
        if pick_device(settings.get("device", "auto")).type == "cpu":
            check_start(count_weights(config), free)
        return keep_whole(config, free)

    return is_mapped


def read_text(settings: Settings, report: "Reporter", processes: Processes) -> "Corpus":
    """Open the text and say what it is; UsageError for a pipe, of which several processes each get a part."""
    from mygpt_cli.config.corpus import corpus_of
    from mygpt_cli.text.corpus import waits_on_stdin

    files = settings.get("files", ())
    if processes.count > 1 and "-" in (*files, settings.get("val_file")):
        raise UsageError(
            f"{processes.count} processes cannot all read standard input", "write the text to a file"
        )
    typed = "-" in files and sys.stdin is not None and sys.stdin.isatty()
    report.busy("type the text, and end it with Ctrl-D on an empty line" if typed else "reading the text")
    corpus = corpus_of(settings)
    report.text(corpus)
    # It is not read without being named: a loop of the shell has its own list there, and cron a pipe that
    # never ends. Nor may it depend on the moment whether it is.
    if not files and waits_on_stdin():
        report.notes(["text on standard input is read only with a dash: mygpt train -"])
    return corpus


def drive(run: "Run | None", trainer: "Trainer", report: "Reporter") -> None:
    """Train to the end or to a signal; exits with 129, 130 or 143 when interrupted.

    Of several processes only the first has the run.
    """
    from mygpt_cli.checkpoints import runs
    from mygpt_cli.cli.interruption import Interruption, exit_code_of
    from mygpt_cli.cli.samples import Samples
    from mygpt_cli.training.events import Finished

    samples = Samples(trainer)
    ended, folder = "", trainer.processes.of(0, str(run.folder) if run else "")
    with Interruption() as interruption, contextlib.ExitStack() as closing:
        board, stop = None, interruption.reason
        if trainer.config.tensorboard and run:
            from mygpt_cli.ui.tensorboard import TensorBoard

            board = closing.enter_context(TensorBoard(run.folder, trainer.history.step))
        try:
            between = samples.on_time
            for event in runs.train(run, trainer, stop=stop, between=between) if run else trainer.run(stop):
                if board:
                    board.log(event)
                report.event(event)
                if isinstance(event, Finished):
                    ended = event.reason
        except LostProcessError as lost:
            if Path(folder, "last").exists():
                lost.hint = f"`mygpt train --resume {quote(folder)}` resumes from what was saved"
            raise
    wanted = report.wants_ending and not interruption.signal and not ended.startswith("SIG")
    if wanted and (sample := samples.at_the_end()):
        _show_last(sample, run, report)
    if run:
        report.finish(run.folder, usual_beginning(trainer.dataset))
    others = exit_code_of(ended) if trainer.processes.count > 1 else 0  # a signal that another one had
    if code := interruption.exit_code or others:
        raise typer.Exit(code)


def usual_beginning(dataset: "Dataset") -> str:
    """Return the word that most often begins a line of the validation text; "" where none of them is one.

    The first line may have lost its beginning to the training text.
    """
    lines = dataset.tokenizer.decode(dataset.val[:LOOKED_AT].tolist()).splitlines()[1:]
    firsts = Counter(first for line in lines for first in line.split(maxsplit=1)[:1])
    words = [first for first, _ in firsts.most_common() if first.isalpha() and len(first) <= LONGEST]
    return words[0] if words else ""


def _show_last(sample: "Sampled", run: "Run | None", report: "Reporter") -> None:
    """Show what the model writes when it has been trained, and keep it with what it wrote before."""
    report.event(sample)
    with contextlib.suppress(ResourceError):  # all that matters is saved
        if run:
            run.log(sample)

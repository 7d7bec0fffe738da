"""`mygpt train`: from text to a run folder."""

import contextlib
import glob
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mygpt_cli.base.errors import (
    CheckpointError,
    LostProcessError,
    ResourceError,
    TextError,
    UsageError,
    join_faults,
    together,
)
from mygpt_cli.base.processes import Processes
from mygpt_cli.cli.help import HelpAll
from mygpt_cli.cli.launch import are_launched, joined, launch
from mygpt_cli.cli.options import read_flags, switch, value, with_settings
from mygpt_cli.cli.sampling import run_or_path, runs_folder
from mygpt_cli.config.knobs import flag_of
from mygpt_cli.config.sources import effect_faults, from_environment, from_file, from_preset, merge
from mygpt_cli.config.train import Settings
from mygpt_cli.ui.help import Example

if TYPE_CHECKING:
    from mygpt_cli.checkpoints.checkpoint import Checkpoint
    from mygpt_cli.checkpoints.runs import Run
    from mygpt_cli.text.corpus import Corpus
    from mygpt_cli.training.preparation import Preparation
    from mygpt_cli.training.trainer import Trainer
    from mygpt_cli.ui.train import Reporter

SAMPLE, LAST_SAMPLE = 80, 200  # tokens, while it trains and when it has trained
SAMPLE_LINES = 8  # at most
SAMPLE_SECONDS, SAMPLE_SHARE = 0.5, 0.01  # at most, the second of the time that training took
LATEST = "latest"  # as the name of a run, unless one is called so
EXAMPLES = (
    Example("mygpt train story.txt", "a model of one file, in five minutes"),
    Example("mygpt train story.txt poems/ --time 20m", "of a file and a folder, in twenty minutes"),
    Example("mygpt train story.txt --dry-run", "see what would be trained, and why"),
    Example("mygpt train --resume latest --time 10m", "train the newest run for ten minutes more"),
    Example("mygpt train chat.txt --init-from story-001", "fine-tune a trained model on another text"),
)
# Of the help's sections: what people ask for first.
ORDER = ("Arguments", "Budget (one of these)", "Run", "Text", "Model", "Optimizer", "Schedule", "Intervals")
SETTINGS_NOTE = (
    "Every setting can also be given as a variable MYGPT_NAME (such as MYGPT_LAYERS=4), in a file for "
    "--config, or by a --preset. A flag wins over a variable, that over --config, and that over --preset."
)
CALLED = {"batch_size": "--batch-size times --accumulation"}


@with_settings
def train(
    invoked: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Text files, folders, globs such as '*.md', or - for standard input (default: the Python "
            "language reference, which comes with Python).",
            metavar="[FILES]...",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        str | None,
        value("Continue this run where it stopped; latest is the newest one.", "RUN", "Run"),
    ] = None,
    config: Annotated[
        Path | None,
        value("Take settings from a TOML file, such as the config.toml of a run.", "FILE", "Run"),
    ] = None,
    preset: Annotated[
        str | None,
        value(
            "Take settings from a recipe that comes with mygpt, such as classic-cpu.",
            "NAME",
            "Run",
            expert=True,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Start this many processes on this machine, which share the work of each step.",
            metavar="N",
            min=1,
            rich_help_panel="Run",
            show_default=False,
            hidden=True,
        ),
    ] = None,
    dry_run: Annotated[
        bool, switch("--dry-run", "Show the plan with its reasons, and stop before training.", "Output")
    ] = False,
    explain: Annotated[
        bool, switch("--explain", "Say why each setting was chosen, and train.", "Output")
    ] = False,
    json: Annotated[
        bool, switch("--json", "Write JSON to stdout, one event on each line.", "Output")
    ] = False,
    quiet: Annotated[bool, switch("--quiet", "Write only the folder of the run.", "Output", "-q")] = False,
    help_all: HelpAll = False,
    **flags: Any,
) -> None:
    """Train a GPT on any text. What you do not set is chosen to suit the text, the time and the machine."""
    started = time.perf_counter()
    if processes and processes > 1 and not are_launched(os.environ):
        raise typer.Exit(launch(invoked.obj, processes, os.environ))
    from mygpt_cli.ui.reporter import reporter

    with (
        joined(os.environ, processes) as those,
        reporter(json=json, quiet=quiet, explain=explain or dry_run, silent=not those.first) as report,
    ):
        given, *weaker = _sources(flags, files or [], config, preset, resume)
        if resume is not None:
            _resume(_find_run(resume, given), given, report, dry_run, started, those)
        else:
            settings = merge([given, *weaker])
            faults = effect_faults(given, settings)
            _train(settings, faults, report, dry_run, started, those)


def _sources(
    flags: dict[str, Any], files: list[str], config: Path | None, preset: str | None, resume: str | None
) -> list[Settings]:
    """Return the settings of the flags and then of all other sources, the strongest first."""
    if resume is not None and (config is not None or preset is not None):
        raise UsageError("--resume uses the settings of the run itself", "leave --config and --preset out")
    sources: list[Callable[[], Settings]] = [lambda: read_flags(flags)]
    if resume is None:
        sources.append(lambda: from_environment(os.environ))
        sources += [lambda: from_file(config)] if config is not None else []
        sources += [lambda: from_preset(preset)] if preset is not None else []
    given, *weaker = together(*sources)
    # Absolute, so that the run can be resumed from any folder.
    if files:
        given["files"] = tuple(_absolute(name) for name in files)
    if "val_file" in given:
        given["val_file"] = _absolute(given["val_file"])
    for layer in (given, *weaker):
        if layer.get("init_from"):
            layer["init_from"] = str(run_or_path(layer["init_from"]).absolute())
    return [given, *weaker]


def _absolute(name: str) -> str:
    if name in ("", "-") or Path(name).is_absolute():
        return name
    # In a pattern, the folder's own brackets are no pattern.
    here = str(Path.cwd()) if os.path.lexists(name) else glob.escape(str(Path.cwd()))
    return str(Path(here, name))


def _train(
    settings: Settings,
    faults: list[str],
    report: "Reporter",
    dry_run: bool,
    started: float,
    processes: Processes,
) -> None:
    """Start a new run, unless the settings have faults, these or others."""
    from mygpt_cli.config.train import raise_faults, setting_faults
    from mygpt_cli.tokens.tokenizer_training import check_tokenizer

    together(
        lambda: raise_faults(setting_faults(settings) + faults),
        lambda: check_tokenizer(settings.get("tokenizer", "bpe"), settings.get("vocab_size")),
        lambda: _check_tensorboard(settings),
    )
    out = Path(settings.get("out", "checkpoints"))
    _check_writable(out)
    corpus = _read_text(settings, report, processes)
    prepared = _prepare(settings, corpus, report, settings.get("init_from"), processes)
    from mygpt_cli.training.preparation import planned

    plan = prepared.plan()
    trainer = prepared.new_trainer(prepared.configuration(plan, started))
    report.notes(prepared.notes)
    report.plan(planned(trainer, plan))
    if dry_run:
        return
    if not processes.first:
        _drive(None, trainer, report)
        return

    from mygpt_cli.checkpoints.runs import Run
    from mygpt_cli.text import manifest

    run = Run.create(out, trainer.config.name or corpus.name, trainer.config)
    manifest.record(run.folder, corpus)
    with run.locked():
        _drive(run, trainer, report)


def _check_writable(out: Path) -> None:
    """Raise ResourceError when runs cannot be kept there, before any work is done for one."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ResourceError(f"cannot write to {out}", "choose another folder with --out")


def _check_tensorboard(settings: Settings) -> None:
    if settings.get("tensorboard"):
        from mygpt_cli.ui.tensorboard import check_tensorboard

        check_tensorboard()


def _resume(
    folder: Path, given: Settings, report: "Reporter", dry_run: bool, started: float, processes: Processes
) -> None:
    """Go on with a run, as if it had not stopped."""
    from mygpt_cli.checkpoints.checkpoint import load, load_optimizer
    from mygpt_cli.checkpoints.metrics import CONFIG
    from mygpt_cli.checkpoints.runs import (
        Run,
        course_of,
        history_of,
        settings_of,
        unchangeable,
        unwritten,
    )
    from mygpt_cli.inspection.history import read_history
    from mygpt_cli.text import manifest
    from mygpt_cli.text.corpus import STDIN

    run = Run(folder)
    with run.locked() if processes.first else contextlib.nullcontext():
        kept = from_file(folder / CONFIG)
        if "steps" not in kept:
            fault = f"{folder / CONFIG} does not say how many steps the run has"
            raise UsageError(fault, "put its line `steps = N` back")
        checkpoint = load(folder, prefer=("last",))
        began = settings_of(checkpoint, kept)
        course = course_of(checkpoint.state)
        kept |= unwritten(course, kept)
        settings = merge([given, kept])
        _check_tensorboard(settings)
        report.notes(checkpoint.notes)
        now = unchangeable(settings)
        both = {name: (began.get(name, "unset"), now.get(name, "unset")) for name in now | began}
        changed = [
            f"{CALLED.get(name, flag_of(name))} is {before} in this run, not {after}"
            for name, (before, after) in both.items()
            if before != after
        ]
        if changed:
            hint = f"leave them out, or change them back in {folder / CONFIG}, or train a new run"
            raise UsageError(f"cannot resume with changed settings: {join_faults(changed, 'differ')}", hint)
        history = history_of(checkpoint.state)
        _check_left(folder, history.step, settings.get("steps"), kept["steps"])
        try:
            corpus = _read_text(settings, report, processes)
        except TextError as error:
            again = f"mygpt train --resume {quote(str(folder))}"
            piped = STDIN in (*settings.get("files", ()), settings.get("val_file"))
            error.hint = "resuming needs the text of the run: " + (
                f"pipe it in again, `{again} < FILE`" if piped else f"say where it is now, `{again} FILES`"
            )
            raise
        if checkpoint.state is None or checkpoint.state.get("text") != corpus.fingerprint:
            told = manifest.changes(folder, corpus)
            raise TextError(
                f"the text is not the one that {folder} was trained on"
                + (f": {join_faults(told, 'have changed')}" if told else ""),
                "give the same files, or train a new run; --init-from fine-tunes this one on another text",
            )
        prepared = _prepare(settings, corpus, report, checkpoint, processes)
        from mygpt_cli.training.preparation import planned

        plan = prepared.plan()
        if plan.steps != kept["steps"]:
            plan = plan.with_new_intervals((course or [(0, kept["steps"])])[0][1], set(given))
        configuration = prepared.configuration(plan, started, history.step)
        extended = bool(course) and course[-1][1] != configuration.steps
        if course and not extended:
            configuration = replace(configuration, corrections=course if len(course) > 1 else ())
        trainer = prepared.resumed_trainer(configuration, history)
        report.notes(prepared.notes)
        _check_left(folder, history.step, trainer.config.steps, kept["steps"])
        if extended:
            report.notes([trainer.extend(course)])
        try:
            trainer.optimizer.load_state(load_optimizer(checkpoint.folder))
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.folder} cannot be resumed: {error}", "train a new run"
            ) from None
        report.plan(planned(trainer, plan))
        if dry_run:
            return
        processes.most(0)  # all have read what changes now
        if not processes.first:
            _drive(None, trainer, report)
            return
        run.configure(trainer.config)
        run.forget_after(history.step)
        report.past(read_history(folder))
        _drive(run, trainer, report)


def _check_left(folder: Path, done: int, steps: int | None, planned: int) -> None:
    """Raise UsageError when a run has already taken as many steps as it is to have, or was to have."""
    if steps is None or done < steps:
        return
    again = f"mygpt train --resume {quote(str(folder))}"
    if done < planned:
        raise UsageError(
            f"{folder} is at step {done:,} of {planned:,}; the budget counts from the start of the run, "
            f"and its {steps:,} steps are already done",
            f"`{again}` finishes it, `{again} --steps {done + steps}` takes {steps:,} more",
        )
    raise UsageError(
        f"{folder} is finished: it has taken all of its {done:,} steps",
        f"train it for longer with `{again} --time 5m` or `{again} --steps {2 * done}`",
    )


def _prepare(
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

    if settings.get("compile", "auto") != "off" and settings.get("device", "auto") in ("auto", "cpu"):
        build_training_ahead(settings.get("dtype", "auto"), cache_folder() / "kernels")

    from mygpt_cli.checkpoints.checkpoint import load
    from mygpt_cli.training.preparation import Preparation

    if start is None or isinstance(start, str):
        begun = load(Path(start)) if start else None
        return Preparation(settings, corpus, report.busy, begun, processes=processes)
    return Preparation(settings, corpus, report.busy, start, resumed=True, processes=processes)


def _find_run(name: str, given: Settings) -> Path:
    """Return the run folder that a path or a bare name means, or the newest one for `latest`."""
    from mygpt_cli.checkpoints.checkpoint import locate, newest_run
    from mygpt_cli.checkpoints.metrics import CONFIG

    folder = Path(given["out"], name) if "out" in given else run_or_path(name)
    if name == LATEST and not folder.exists():
        folder = newest_run(Path(given["out"]) if "out" in given else runs_folder())
    if folder.name in ("last", "best") and (folder.parent / CONFIG).is_file():
        folder = folder.parent
    locate(folder, ("last",))
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} is not a run: it has no {CONFIG}",
            "--resume continues a run of `mygpt train`; `mygpt runs` lists them",
        )
    return folder


def _read_text(settings: Settings, report: "Reporter", processes: Processes) -> "Corpus":
    """Open the text and say what it is; UsageError for a pipe, of which several processes each get a part."""
    from mygpt_cli.text.corpus import open_corpus

    files = settings.get("files", ())
    if processes.count > 1 and "-" in (*files, settings.get("val_file")):
        raise UsageError(
            f"{processes.count} processes cannot all read standard input", "write the text to a file"
        )
    typed = "-" in files and sys.stdin is not None and sys.stdin.isatty()
    report.busy("type the text, and end it with Ctrl-D on an empty line" if typed else "reading the text")
    corpus = open_corpus(
        files,
        errors=settings.get("errors", "strict"),
        encoding=settings.get("encoding", "utf-8"),
        val_fraction=settings.get("val_fraction"),
        val_file=settings.get("val_file"),
    )
    report.text(corpus)
    return corpus


def _drive(run: "Run | None", trainer: "Trainer", report: "Reporter") -> None:
    """Train to the end or to a signal; exits with 129, 130 or 143 when interrupted.

    Of several processes only the first has the run.
    """
    from mygpt_cli.checkpoints import runs
    from mygpt_cli.cli.interruption import Interruption, exit_code_of
    from mygpt_cli.training.events import Evaluated, Finished

    ended, folder = "", trainer.processes.of(0, str(run.folder) if run else "")
    with Interruption() as interruption, contextlib.ExitStack() as closing:
        board, stop = None, interruption.reason
        if trainer.config.tensorboard and run:
            from mygpt_cli.ui.tensorboard import TensorBoard

            board = closing.enter_context(TensorBoard(run.folder, trainer.history.step))
        try:
            for event in runs.train(run, trainer, stop=stop) if run else trainer.run(stop):
                if board:
                    board.log(event)
                report.event(event)
                if isinstance(event, Evaluated) and report.wants_samples:
                    report.event(_sampled(trainer, SAMPLE))
                if isinstance(event, Finished):
                    ended = event.reason
        except LostProcessError as lost:
            if Path(folder, "last").exists():
                lost.hint = f"`mygpt train --resume {quote(folder)}` resumes from what was saved"
            raise
    if report.wants_ending and not interruption.signal and not ended.startswith("SIG"):
        report.event(_sampled(trainer, LAST_SAMPLE))
    if run:
        report.finish(run.folder)
    others = exit_code_of(ended) if trainer.processes.count > 1 else 0  # a signal that another one had
    if code := interruption.exit_code or others:
        raise typer.Exit(code)


def _sampled(trainer: "Trainer", tokens: int) -> Any:
    """Let the model write a few lines, always from the same draws, to show how it learns."""
    from mygpt_cli.backends.reference import ReferenceDecoder
    from mygpt_cli.config.sampling import Sampling
    from mygpt_cli.generation.stream import TextChunk, generate, read_prompt
    from mygpt_cli.training.events import Sampled

    tokenizer, decoder = trainer.dataset.tokenizer, ReferenceDecoder(trainer.model)
    sampling = Sampling(seed=trainer.config.seed, max_new_tokens=tokens)
    prompt = read_prompt(tokenizer, "", trainer.config.context)
    text, began, most = "", time.perf_counter(), max(SAMPLE_SECONDS, SAMPLE_SHARE * trainer.history.seconds)
    for part in generate(decoder, tokenizer, [prompt], sampling):
        text += part.text if isinstance(part, TextChunk) else ""
        if text.strip().count("\n") >= SAMPLE_LINES or time.perf_counter() - began > most:
            break
    return Sampled(step=trainer.history.step, text=text)

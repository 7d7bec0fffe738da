"""`mygpt train`: from text to a run folder."""

import glob
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mygpt_cli.base.errors import (
    ResourceError,
    UsageError,
    together,
)
from mygpt_cli.base.processes import Processes
from mygpt_cli.cli.help import HelpAll
from mygpt_cli.cli.launch import are_launched, joined, launch
from mygpt_cli.cli.options import read_flags, switch, value, with_settings
from mygpt_cli.cli.resume import find_run, resume_run
from mygpt_cli.cli.sampling import run_or_path
from mygpt_cli.cli.training import check_tensorboard_setting, drive, prepare, read_text
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.sources import effect_faults, from_environment, from_file, from_preset, merge
from mygpt_cli.ui.help import Example

if TYPE_CHECKING:
    from mygpt_cli.ui.train import Reporter

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
            resume_run(find_run(resume, given), given, report, dry_run, started, those)
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
    if (val_file := given.get("val_file")) is not None:
        given["val_file"] = _absolute(val_file)
    for layer in (given, *weaker):
        if start := layer.get("init_from"):
            layer["init_from"] = str(run_or_path(start).absolute())
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
    from mygpt_cli.config.train import as_settings
    from mygpt_cli.tokens.tokenizer_training import check_tokenizer

    together(
        lambda: as_settings(settings, faults=faults),
        lambda: check_tokenizer(settings.get("tokenizer", "bpe"), settings.get("vocab_size")),
        lambda: check_tensorboard_setting(settings),
    )
    out = Path(settings.get("out", "checkpoints"))
    _check_writable(out)
    corpus = read_text(settings, report, processes)
    prepared = prepare(settings, corpus, report, settings.get("init_from"), processes)
    from mygpt_cli.training.preparation import planned

    plan = prepared.plan(started)
    trainer = prepared.new_trainer(prepared.configuration(plan, started))
    report.notes(prepared.notes)
    report.plan(planned(trainer, plan))
    if dry_run:
        return
    if not processes.first:
        drive(None, trainer, report)
        return

    from mygpt_cli.checkpoints.runs import Run
    from mygpt_cli.text import manifest

    run = Run.create(out, trainer.config.name or corpus.name, trainer.config)
    manifest.record(run.folder, corpus)
    with run.locked():
        drive(run, trainer, report)


def _check_writable(out: Path) -> None:
    """Raise ResourceError when runs cannot be kept there, before any work is done for one."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ResourceError(f"cannot write to {out}", "choose another folder with --out")

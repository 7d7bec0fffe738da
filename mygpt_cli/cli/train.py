"""`mygpt train`: from text to a run folder."""

import glob
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mygpt_cli.cli.options import read_flags, with_settings
from mygpt_cli.cli.sampling import run_or_path
from mygpt_cli.config import BUDGETS, Settings
from mygpt_cli.errors import CheckpointError, ResourceError, TextError, UsageError, join_faults
from mygpt_cli.settings import from_environment, from_file, from_preset, merge

if TYPE_CHECKING:
    from mygpt_cli.checkpoint import Checkpoint
    from mygpt_cli.config import ModelConfig
    from mygpt_cli.corpus import Corpus
    from mygpt_cli.training.trainer import History, Trainer
    from mygpt_cli.ui.train import Reporter

CHANGEABLE = {*BUDGETS, "eval_every", "save_every", "log_every", "device", "files", "val_file", "out"}


@with_settings
def train(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, globs, or - for standard input. With none: a text that comes with Python.",
            metavar="[FILES]...",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings from a TOML file.", metavar="FILE", rich_help_panel="Settings"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Settings that come with mygpt.", metavar="NAME", rich_help_panel="Settings"),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run.", metavar="RUN", rich_help_panel="Settings")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Show the plan and stop.", rich_help_panel="Output")
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json", metavar="", help="Write each event as a line of JSON.", rich_help_panel="Output"
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", metavar="", help="Write only the run's folder.", rich_help_panel="Output"
        ),
    ] = False,
    **flags: Any,
) -> None:
    """Train a GPT on a text.

    Any setting can also come from a variable MYGPT_<NAME>, from --config or from --preset; the first of
    flag, variable, config and preset wins.
    """
    started = time.perf_counter()
    given = read_flags(flags)
    # Absolute, so that the run can be resumed from any folder.
    if files:
        given["files"] = tuple(_absolute(name) for name in files)
    for name in {"val_file", "init_from"} & set(given):
        given[name] = _absolute(given[name])
    if resume is not None and (config is not None or preset is not None):
        raise UsageError("--resume goes on with the run's own settings", "leave --config and --preset out")
    from mygpt_cli.ui.train import reporter

    with reporter(json=json, quiet=quiet) as report:
        if resume is not None:
            _resume(_find_run(resume, given), given, report, dry_run, started)
        else:
            layers = [given, from_environment(os.environ)]
            layers += [from_file(config)] if config is not None else []
            layers += [from_preset(preset)] if preset is not None else []
            _train(merge(layers), report, dry_run, started)


def _absolute(name: str) -> str:
    if name in ("", "-") or Path(name).is_absolute():
        return name
    # In a pattern, the folder's own brackets are no pattern.
    here = str(Path.cwd()) if Path(name).exists() else glob.escape(str(Path.cwd()))
    return str(Path(here, name))


def _train(settings: Settings, report: "Reporter", dry_run: bool, started: float) -> None:
    """Start a new run."""
    from dataclasses import replace

    from mygpt_cli.config import raise_faults, setting_faults
    from mygpt_cli.tokenizer import check_tokenizer

    raise_faults(setting_faults(settings))
    check_tokenizer(settings.get("tokenizer", "bpe"), settings.get("vocab_size"))
    out = Path(settings.get("out", "checkpoints"))
    _check_writable(out)
    corpus = _read_text(settings, report)
    trainer, seconds = _prepare(settings, corpus, report, started)
    report.plan(trainer, seconds)
    if dry_run:
        return

    from mygpt_cli.runs import Run

    config = trainer.config
    if config.tokenizer == "bpe":
        config = replace(config, vocab_size=trainer.dataset.tokenizer.vocab_size)
    run = Run.create(out, config.name or corpus.name, config)
    with run.locked():
        _drive(run, trainer, report)


def _check_writable(out: Path) -> None:
    """Raise ResourceError when runs cannot be kept there, before any work is done for one."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ResourceError(f"cannot write to {out}", "choose another folder with --out")


def _resume(folder: Path, given: Settings, report: "Reporter", dry_run: bool, started: float) -> None:
    """Go on with a run, as if it had not stopped."""
    from mygpt_cli.checkpoint import load, load_optimizer
    from mygpt_cli.runs import CONFIG, Run, history_of

    run = Run(folder)
    with run.locked():
        kept = from_file(folder / CONFIG)
        changed = [
            f"--{name.replace('_', '-')} is {kept.get(name)} in this run, not {value}"
            for name, value in given.items()
            if name not in CHANGEABLE and value != kept.get(name)
        ]
        if changed:
            hint = "leave these out, or train a new run"
            raise UsageError(f"a run goes on as it began: {join_faults(changed)}", hint)
        settings = merge([given, kept])
        checkpoint = load(folder, prefer=("last",))
        report.notes(checkpoint.notes)
        history = history_of(checkpoint.state)
        steps = settings.get("steps")
        if steps is not None and history.step >= steps:
            raise UsageError(
                f"{folder} is at step {history.step} and has nothing left to do",
                f"give it more with --steps {2 * history.step} or with --time 5m",
            )
        corpus = _read_text(settings, report)
        if checkpoint.state is None or checkpoint.state.get("text") != corpus.fingerprint:
            raise TextError(
                f"the text is not the one that {folder} was trained on",
                "give the same files, or train a new run",
            )
        trainer, seconds = _prepare(settings, corpus, report, started, checkpoint, history)
        try:
            trainer.optimizer.load_state(load_optimizer(checkpoint.folder))
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.folder} cannot be resumed: {error}", "train a new run"
            ) from None
        report.plan(trainer, seconds)
        if dry_run:
            return
        run.configure(trainer.config)
        run.forget_after(history.step)
        _drive(run, trainer, report)


def _prepare(
    settings: Settings,
    corpus: "Corpus",
    report: "Reporter",
    started: float,
    checkpoint: "Checkpoint | None" = None,
    history: "History | None" = None,
) -> "tuple[Trainer, float | None]":
    """Make the trainer of a new run, or of one that goes on from a checkpoint; also return its seconds."""
    import torch

    from mygpt_cli.checkpoint import load
    from mygpt_cli.config import TrainConfig
    from mygpt_cli.dataset import prepare
    from mygpt_cli.device import keep_freed_memory, pick_device, pick_dtype, total_memory
    from mygpt_cli.model.gpt import GPT
    from mygpt_cli.randomness import derive
    from mygpt_cli.training.sizing import (
        check_memory,
        fit_steps,
        plan,
        seconds_per_token,
        start_settings,
    )
    from mygpt_cli.training.trainer import Trainer

    keep_freed_memory()
    device = pick_device(settings.get("device", "auto"))
    dtype = pick_dtype(settings.get("dtype", "auto"), device)
    settings = settings | {"dtype": str(dtype).removeprefix("torch.")}
    start = checkpoint
    if start is None and settings.get("init_from"):
        start = load(settings["init_from"])
        settings = settings | start_settings(settings, start.config)
    dataset = prepare(
        corpus,
        tokenizer=settings.get("tokenizer", "bpe"),
        vocab_size=settings.get("vocab_size"),
        existing=start.tokenizer if start else None,
        progress=report.busy,
    )

    def new_trainer(config: TrainConfig) -> Trainer:
        """Return a trainer that begins from weights drawn from the seed, or from those of a checkpoint."""
        check_memory(config, dataset.tokenizer.vocab_size, total_memory(device))
        model = GPT(start.config if start else config.model(dataset.tokenizer.vocab_size))
        if start:
            model.load_state_dict(start.model.state_dict())
        else:
            model.initialise(torch.Generator().manual_seed(derive(config.seed, "weights")))
        model.compute_dtype = dtype
        return Trainer(config, dataset, model.to(device))

    report.busy("measuring the speed of a step")
    chosen = plan(settings, dataset, lambda config: seconds_per_token(new_trainer(config)))
    report.notes(chosen.notes)
    steps = chosen.steps
    done = history.step if history else 0
    if chosen.seconds is not None:
        left = chosen.seconds - (time.perf_counter() - started)
        steps = done + fit_steps(chosen, new_trainer(chosen.config(done + 100)), left)
    config = chosen.config(steps or 1)
    if checkpoint is None:
        return new_trainer(config), chosen.seconds
    if different := _differences(config.model(checkpoint.config.vocab_size), checkpoint.config):
        raise CheckpointError(
            f"config.toml is not that of the checkpoint: {join_faults(different)}",
            "put these back, or train anew",
        )
    model = checkpoint.model.to(device)
    model.compute_dtype = dtype
    return Trainer(config, dataset, model, history), chosen.seconds


def _differences(asked: "ModelConfig", there: "ModelConfig") -> list[str]:
    names = ("arch", "layers", "heads", "width", "softcap", "bias")
    return [
        f"{name} is {getattr(asked, name)}, and {getattr(there, name)} in the weights"
        for name in names
        if getattr(asked, name) != getattr(there, name)
    ]


def _find_run(name: str, given: Settings) -> Path:
    """Return the run folder that a path or a bare name means."""
    from mygpt_cli.checkpoint import locate
    from mygpt_cli.runs import CONFIG

    folder = Path(given["out"], name) if "out" in given else run_or_path(name)
    if folder.name in ("last", "best") and (folder.parent / CONFIG).is_file():
        folder = folder.parent
    locate(folder, ("last",))
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} is not a run: it has no {CONFIG}", "--resume takes a folder made by `mygpt train`"
        )
    return folder


def _read_text(settings: Settings, report: "Reporter") -> "Corpus":
    """Open the text and say what it is."""
    from mygpt_cli.corpus import open_corpus

    files = settings.get("files", ())
    typed = "-" in files and sys.stdin is not None and sys.stdin.isatty()
    report.busy("type the text and end it with Ctrl-D" if typed else "reading the text")
    corpus = open_corpus(
        files,
        errors=settings.get("errors", "strict"),
        val_fraction=settings.get("val_fraction", 0.1),
        val_file=settings.get("val_file"),
    )
    report.text(corpus)
    return corpus


def _drive(run: Any, trainer: "Trainer", report: "Reporter") -> None:
    """Train to the end or to a signal; exits with 130 or 143 when interrupted."""
    from mygpt_cli import runs
    from mygpt_cli.cli.interruption import Interruption
    from mygpt_cli.training.events import Evaluated

    with Interruption() as interruption:
        for event in runs.train(run, trainer, stop=interruption.reason):
            report.event(event)
            if isinstance(event, Evaluated) and report.wants_samples:
                report.event(_sampled(trainer))
    report.finish(run.folder)
    if interruption.exit_code:
        raise typer.Exit(interruption.exit_code)


def _sampled(trainer: "Trainer") -> Any:
    """Let the model write a little, always from the same draws, to show how it learns."""
    from mygpt_cli.generation.settings import Sampling
    from mygpt_cli.generation.stream import Chunk, generate, read_prompt
    from mygpt_cli.training.events import Sampled

    tokenizer, model = trainer.dataset.tokenizer, trainer.model
    sampling = Sampling(seed=trainer.config.seed, max_new_tokens=80)
    parts = generate(model, tokenizer, [read_prompt(tokenizer, "", model.config.context)], sampling)
    return Sampled(
        step=trainer.history.step, text="".join(part.text for part in parts if isinstance(part, Chunk))
    )

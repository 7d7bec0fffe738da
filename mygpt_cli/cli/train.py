"""`mygpt train`: from text to a run folder."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mygpt_cli.cli.options import read_flags, with_settings
from mygpt_cli.config import BUDGETS, Settings
from mygpt_cli.errors import UsageError, join_faults
from mygpt_cli.settings import from_environment, from_file, from_preset, merge

if TYPE_CHECKING:
    from mygpt_cli.config import TrainConfig
    from mygpt_cli.dataset import Dataset
    from mygpt_cli.training.trainer import Trainer
    from mygpt_cli.ui.train import Reporter

CHANGEABLE = {*BUDGETS, "eval_every", "save_every", "log_every", "device", "files", "out"}


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
    if files:
        # Absolute, so that the run can be resumed from any folder.
        given["files"] = tuple(name if name == "-" else str(Path(name).absolute()) for name in files)
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


def _train(settings: Settings, report: "Reporter", dry_run: bool, started: float) -> None:
    """Start a new run."""
    from dataclasses import replace

    from mygpt_cli.config import raise_faults, setting_faults
    from mygpt_cli.device import keep_freed_memory, pick_device, pick_dtype

    raise_faults(setting_faults(settings))
    device = pick_device(settings.get("device", "auto"))
    keep_freed_memory()
    dataset, name = _read_text(settings, report)

    from mygpt_cli.training.sizing import fit_steps, plan, seconds_per_token
    from mygpt_cli.training.trainer import Trainer

    dtype = pick_dtype(settings.get("dtype", "auto"), device)

    def scratch(draft: "TrainConfig") -> Trainer:
        return Trainer(draft, dataset, _new_model(draft, dataset, device, dtype))

    report.busy("measuring the speed of a step")
    settings |= {"dtype": str(dtype).removeprefix("torch.")}
    chosen = plan(settings, dataset, lambda draft: seconds_per_token(scratch(draft)))
    report.notes(chosen.notes)
    steps = chosen.steps
    if chosen.seconds is not None:
        steps = fit_steps(scratch(chosen.config(100)), chosen.seconds - (time.perf_counter() - started))
    config = chosen.config(steps or 1)
    trainer = scratch(config)
    report.plan(trainer, chosen.seconds)
    if dry_run:
        return

    from mygpt_cli.runs import Run

    run = Run.create(
        Path(config.out), config.name or name, replace(config, vocab_size=dataset.tokenizer.vocab_size)
    )
    _drive(run, trainer, report)


def _resume(folder: Path, given: Settings, report: "Reporter", dry_run: bool, started: float) -> None:
    """Go on with a run, as if it had not stopped."""
    from mygpt_cli.checkpoint import load, load_optimizer
    from mygpt_cli.device import keep_freed_memory, pick_device, pick_dtype
    from mygpt_cli.errors import CheckpointError, TextError
    from mygpt_cli.runs import CONFIG, Run, history_of
    from mygpt_cli.training.sizing import fit_steps, plan, seconds_per_token
    from mygpt_cli.training.trainer import Trainer

    keep_freed_memory()
    kept = from_file(folder / CONFIG)
    changed = [
        f"--{name.replace('_', '-')} is {kept.get(name)} in this run, not {value}"
        for name, value in given.items()
        if name not in CHANGEABLE and value != kept.get(name)
    ]
    if changed:
        raise UsageError(
            f"a run goes on as it began: {join_faults(changed)}", "leave these out, or train a new run"
        )
    settings = merge([given, kept])
    checkpoint = load(folder, prefer=("last",))
    report.notes(checkpoint.notes)
    history = history_of(checkpoint.state)
    dataset, _ = _read_text(settings, report, checkpoint.tokenizer)
    if checkpoint.state is None or checkpoint.state.get("text") != dataset.fingerprint:
        raise TextError(
            f"the text is not the one that {folder} was trained on", "give the same files, or train a new run"
        )
    device = pick_device(settings.get("device", "auto"))
    dtype = pick_dtype(settings.get("dtype", "auto"), device)

    def scratch(draft: "TrainConfig") -> Trainer:
        return Trainer(draft, dataset, _new_model(draft, dataset, device, dtype))

    chosen = plan(settings, dataset, lambda draft: seconds_per_token(scratch(draft)))
    steps = chosen.steps
    if chosen.seconds is not None:
        left = chosen.seconds - (time.perf_counter() - started)
        steps = history.step + fit_steps(scratch(chosen.config(history.step + 100)), left)
    config = chosen.config(steps or 1)
    if history.step >= config.steps:
        raise UsageError(
            f"{folder} has taken all of its {config.steps} steps",
            f"--steps {2 * config.steps} would go on from there",
        )
    model = checkpoint.model.to(device)
    model.compute_dtype = dtype
    trainer = Trainer(config, dataset, model, history)
    try:
        trainer.optimizer.load_state(load_optimizer(checkpoint.folder))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.folder} cannot be resumed: {error}", "train a new run") from None
    report.plan(trainer, chosen.seconds)
    if dry_run:
        return
    run = Run(folder)
    run.forget_after(history.step)
    _drive(run, trainer, report)


def _find_run(name: str, given: Settings) -> Path:
    """Return the run folder that a path or a bare name means."""
    from mygpt_cli.checkpoint import locate
    from mygpt_cli.errors import CheckpointError
    from mygpt_cli.runs import CONFIG

    folder = Path(name)
    if not folder.exists() and len(folder.parts) == 1:
        folder = Path(given.get("out", "checkpoints")) / name
    if folder.name in ("last", "best") and (folder.parent / CONFIG).is_file():
        folder = folder.parent
    locate(folder, ("last",))
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} is not a run: it has no {CONFIG}", "--resume takes a folder made by `mygpt train`"
        )
    return folder


def _read_text(settings: Settings, report: "Reporter", existing: Any = None) -> "tuple[Dataset, str]":
    """Read and tokenize the text; also return a name for it."""
    from mygpt_cli.corpus import open_corpus
    from mygpt_cli.dataset import prepare

    report.busy("reading the text")
    corpus = open_corpus(
        settings.get("files", ()),
        errors=settings.get("errors", "strict"),
        val_fraction=settings.get("val_fraction", 0.1),
        val_file=settings.get("val_file"),
    )
    report.text(corpus)
    dataset = prepare(
        corpus,
        tokenizer=settings.get("tokenizer", "bpe"),
        vocab_size=settings.get("vocab_size"),
        existing=existing,
        progress=report.busy,
    )
    return dataset, corpus.name


def _new_model(config: Any, dataset: "Dataset", device: Any, dtype: Any) -> Any:
    """Return a model with fresh weights drawn from the seed."""
    import torch

    from mygpt_cli.model.gpt import GPT
    from mygpt_cli.randomness import derive

    model = GPT(config.model(dataset.tokenizer.vocab_size))
    model.initialise(torch.Generator().manual_seed(derive(config.seed, "weights")))
    model.compute_dtype = dtype
    return model.to(device)


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
    parts = generate(model, tokenizer, read_prompt(tokenizer, "", model.config.context), sampling)
    return Sampled(
        step=trainer.history.step, text="".join(part.text for part in parts if isinstance(part, Chunk))
    )

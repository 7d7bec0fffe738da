"""`mygpt train --resume`: a run goes on as if it had not stopped."""

import contextlib
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from mygpt_cli.base.errors import (
    CheckpointError,
    TextError,
    UsageError,
    join_faults,
)
from mygpt_cli.base.processes import Processes
from mygpt_cli.cli.sampling import run_or_path, runs_folder
from mygpt_cli.config.knobs import flag_of
from mygpt_cli.config.settings import Settings
from mygpt_cli.config.sources import from_file, merge

if TYPE_CHECKING:
    from mygpt_cli.ui.train import Reporter
from mygpt_cli.cli.training import check_tensorboard_setting, drive, prepare, read_text

CALLED = {"batch_size": "--batch-size times --accumulation"}
LATEST = "latest"  # as the name of a run, unless one is called so


def find_run(name: str, given: Settings) -> Path:
    """Return the run folder that a path or a bare name means, or the newest one for `latest`."""
    from mygpt_cli.checkpoints.finding import locate, newest_run
    from mygpt_cli.checkpoints.metrics import RUN_CONFIG

    folder = Path(given["out"], name) if "out" in given else run_or_path(name)
    if name == LATEST and not folder.exists():
        folder = newest_run(Path(given["out"]) if "out" in given else runs_folder())
    if folder.name in ("last", "best") and (folder.parent / RUN_CONFIG).is_file():
        folder = folder.parent
    locate(folder, ("last",))
    if not (folder / RUN_CONFIG).is_file():
        raise CheckpointError(
            f"{folder} is not a run: it has no {RUN_CONFIG}",
            "--resume continues a run of `mygpt train`; `mygpt runs` lists them",
        )
    return folder


def resume_run(
    folder: Path, given: Settings, report: "Reporter", dry_run: bool, started: float, processes: Processes
) -> None:
    """Go on with a run, as if it had not stopped."""
    from mygpt_cli.checkpoints.checkpoint import load, load_optimizer
    from mygpt_cli.checkpoints.metrics import RUN_CONFIG
    from mygpt_cli.checkpoints.runs import (
        EARLIER,
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
        kept = EARLIER | from_file(folder / RUN_CONFIG)
        if "steps" not in kept:
            fault = f"{folder / RUN_CONFIG} does not say how many steps the run has"
            raise UsageError(fault, "put its line `steps = N` back")
        checkpoint = load(folder, prefer=("last",))
        began = settings_of(checkpoint, kept)
        course = course_of(checkpoint.state)
        kept |= unwritten(course, kept)
        settings = merge([given, kept])
        check_tensorboard_setting(settings)
        report.notes(checkpoint.notes)
        now = unchangeable(settings)
        both = {name: (began.get(name, "unset"), now.get(name, "unset")) for name in now | began}
        changed = [
            f"{CALLED.get(name, flag_of(name))} is {before} in this run, not {after}"
            for name, (before, after) in both.items()
            if before != after
        ]
        if changed:
            hint = f"leave them out, or change them back in {folder / RUN_CONFIG}, or train a new run"
            raise UsageError(f"cannot resume with changed settings: {join_faults(changed, 'differ')}", hint)
        history = history_of(checkpoint.state)
        _check_left(folder, history.step, settings.get("steps"), kept["steps"])
        try:
            corpus = read_text(settings, report, processes)
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
        prepared = prepare(settings, corpus, report, checkpoint, processes)
        from mygpt_cli.training.preparation import planned

        plan = prepared.plan(started)
        if plan.steps != kept["steps"]:
            plan = plan.with_new_intervals((course or [(0, kept["steps"])])[0][1], set(given))
        configuration = prepared.configuration(plan, started, history)
        extended = bool(course) and course[-1][1] != configuration.steps
        if course and not extended:
            configuration = replace(configuration, corrections=course if len(course) > 1 else ())
        trainer = prepared.resumed_trainer(configuration, history)
        report.notes(prepared.notes)
        _check_left(folder, history.step, trainer.config.steps, kept["steps"])
        if extended:
            report.notes([trainer.extend(course)])
        try:
            trainer.load_state(load_optimizer(checkpoint.folder))
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.folder} cannot be resumed: {error}", "train a new run"
            ) from None
        report.plan(planned(trainer, plan))
        if dry_run:
            return
        processes.most(0)  # all have read what changes now
        if not processes.first:
            drive(None, trainer, report)
            return
        run.configure(trainer.config)
        run.forget_after(history.step)
        report.past(read_history(folder))
        drive(run, trainer, report)


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

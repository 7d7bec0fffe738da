"""Inspection records to stdout: tables, or JSON lines."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from mygpt_cli.ui.console import show, stdout_console
from mygpt_cli.ui.sample import write_json
from mygpt_cli.ui.steps import render_footer, render_settings, render_step
from mygpt_cli.ui.summary import render_summary

if TYPE_CHECKING:
    from mygpt_cli.generation.settings import Sampling
    from mygpt_cli.inspection.steps import StepView
    from mygpt_cli.inspection.summary import Summary


def show_summary(summary: "Summary", *, json: bool) -> None:
    """Write what a checkpoint is."""
    if json:
        write_json(dataclasses.asdict(summary))
    else:
        console = stdout_console()
        show(console, render_summary(summary, console.width))


def show_steps(views: Iterable["StepView"], sampling: "Sampling", *, json: bool) -> None:
    """Write each step of generation as it is made."""
    if json:
        for view in views:
            write_json(step_record(view, sampling))
        return
    console = stdout_console()
    show(console, Group(render_settings(sampling), Text()))
    last = None
    for last in views:
        show(console, render_step(last, console.width))
    if last:
        show(console, render_footer(last))


def step_record(view: "StepView", sampling: "Sampling") -> dict[str, Any]:
    """Return a step for JSON: tokens as text and as bytes in hexadecimal, and the settings in use."""
    record = dataclasses.asdict(view)
    record["context"] = view.context.decode("utf-8", "replace")
    for candidate in record["candidates"]:
        token: bytes = candidate.pop("token")
        candidate |= {"text": token.decode("utf-8", "replace"), "bytes": token.hex()}
    settings = dataclasses.asdict(sampling)
    return record | {"seed": settings.pop("seed"), "settings": settings}

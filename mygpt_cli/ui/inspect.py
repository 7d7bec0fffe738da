"""Inspection records to the screen and to files: tables and charts, or JSON lines."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.text import Text

from mygpt_cli.ui.export import Export, Screen
from mygpt_cli.ui.history import render_history
from mygpt_cli.ui.steps import render_footer, render_settings, render_step
from mygpt_cli.ui.summary import render_summary

if TYPE_CHECKING:
    from mygpt_cli.generation.settings import Sampling
    from mygpt_cli.inspection.history import RunHistory
    from mygpt_cli.inspection.steps import StepView
    from mygpt_cli.inspection.summary import Summary


def show_summary(
    summary: "Summary | None",
    history: "RunHistory | None" = None,
    *,
    json: bool,
    to: Export | None = None,
) -> None:
    """Write how the run has gone, where there is one, and what its checkpoint is, once there is one."""
    record: dict[str, Any] = {"folder": history.folder if history else ""}
    record |= dataclasses.asdict(summary) if summary else {}
    record["history"] = history_record(history) if history else None
    with Screen(record["folder"], json=json, to=to) as screen:
        screen.record(record)
        if history:
            screen.show(*render_history(history))
        if summary:
            screen.show(render_summary(summary, screen.width))


def history_record(history: "RunHistory") -> dict[str, Any]:
    """Return a run's history for JSON."""
    return dataclasses.asdict(history) | {"share": history.share}


def show_steps(
    views: Iterable["StepView"], sampling: "Sampling", *, json: bool, to: Export | None = None
) -> None:
    """Write each step of generation as it is made."""
    with Screen("steps of generation", json=json, to=to) as screen:
        screen.show(render_settings(sampling), Text())
        last = None
        for last in views:
            screen.record(step_record(last, sampling))
            screen.show(render_step(last, screen.width))
        if last:
            screen.show(render_footer(last))


def step_record(view: "StepView", sampling: "Sampling") -> dict[str, Any]:
    """Return a step for JSON: tokens as text and as bytes in hexadecimal, and the settings in use."""
    record = dataclasses.asdict(view)
    record["context"] = view.context.decode("utf-8", "replace")
    for candidate in record["candidates"]:
        token: bytes = candidate.pop("token")
        candidate |= {"text": token.decode("utf-8", "replace"), "bytes": token.hex()}
    settings = dataclasses.asdict(sampling)
    return record | {"seed": settings.pop("seed"), "settings": settings}

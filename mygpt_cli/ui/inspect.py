"""Inspection records to the screen and to files: tables and charts, or JSON lines."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.text import Text

from mygpt_cli.ui.export import Export, Screen
from mygpt_cli.ui.history import render_history
from mygpt_cli.ui.life import render_life
from mygpt_cli.ui.steps import render_footer, render_settings, render_step
from mygpt_cli.ui.summary import render_summary
from mygpt_cli.ui.temperatures import render_temperatures

if TYPE_CHECKING:
    from mygpt_cli.generation.settings import Sampling
    from mygpt_cli.inspection.history import RunHistory
    from mygpt_cli.inspection.life import LifeView
    from mygpt_cli.inspection.steps import StepView
    from mygpt_cli.inspection.summary import Summary
    from mygpt_cli.inspection.temperatures import TemperaturesView


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
    views: Iterable["StepView"],
    sampling: "Sampling",
    *,
    json: bool,
    to: Export | None = None,
    explain: bool = False,
) -> None:
    """Write each step of generation as it is made."""
    with Screen("steps of generation", json=json, to=to) as screen:
        screen.show(render_settings(sampling), Text())
        last = None
        for last in views:
            screen.record(step_record(last, sampling))
            screen.show(render_step(last, screen.width, explain=explain))
        if last:
            screen.show(render_footer(last))


def show_temperatures(
    view: "TemperaturesView",
    sampling: "Sampling",
    *,
    json: bool,
    to: Export | None = None,
    explain: bool = False,
) -> None:
    """Write the next token at several temperatures."""
    with Screen("temperatures", json=json, to=to) as screen:
        screen.record(_texts(dataclasses.asdict(view)) | _settings(sampling))
        rest = dataclasses.replace(sampling, temperature=1.0)
        screen.show(render_settings(rest), Text())
        screen.show(render_temperatures(view, screen.width, explain=explain))


def show_life(
    view: "LifeView", sampling: "Sampling", *, json: bool, to: Export | None = None, explain: bool = False
) -> None:
    """Write the life of a token."""
    with Screen("the life of a token", json=json, to=to) as screen:
        record = _texts(dataclasses.asdict(dataclasses.replace(view, merges=())))
        record["merges"] = [[left.hex(), right.hex()] for left, right in view.merges]
        record["choice"] = step_record(view.choice, sampling)
        screen.record(record)
        screen.show(render_settings(sampling), Text())
        screen.show(render_life(view, screen.width, explain=explain))


def step_record(view: "StepView", sampling: "Sampling") -> dict[str, Any]:
    """Return a step for JSON: tokens as text and as bytes in hexadecimal, and the settings in use."""
    return dict(_texts(dataclasses.asdict(view))) | _settings(sampling)


def _texts(value: Any) -> Any:
    """Return a record with texts in place of bytes; tokens keep theirs, in hexadecimal."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return [_texts(one) for one in value]
    if not isinstance(value, dict):
        return value
    record = {name: _texts(one) for name, one in value.items()}
    if "token" in record:
        record |= {"text": record.pop("token"), "bytes": value["token"].hex()}
    return record


def _settings(sampling: "Sampling") -> dict[str, Any]:
    settings = dataclasses.asdict(sampling)
    return {"seed": settings.pop("seed"), "settings": settings}

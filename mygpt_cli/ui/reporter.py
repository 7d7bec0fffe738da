"""How a training run is told: the one place that picks."""

from pathlib import Path

from mygpt_cli.ui.console import stderr_console
from mygpt_cli.ui.dashboard import Dashboard
from mygpt_cli.ui.train import JsonReporter, PlainReporter, Reporter


class Silent(Reporter):
    """Tells nothing at all."""

    def finish(self, folder: Path, prompt: str = "") -> None:
        """Leave that to the process that tells."""


def reporter(*, json: bool, quiet: bool, explain: bool = False, silent: bool = False) -> Reporter:
    """Return what suits the flags and the terminal; `explain` has the plan's reasons told."""
    if silent:
        return Silent()
    if json:
        return JsonReporter()
    if quiet:
        return Reporter()
    if stderr_console().is_terminal and not stderr_console().is_dumb_terminal:
        return Dashboard(explain=explain)
    return PlainReporter(explain=explain)

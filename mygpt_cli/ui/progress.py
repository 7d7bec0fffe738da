"""How much of a long work is done, on stderr and only where someone watches.

Only one thing is shown at a time: what begins while another is shown says nothing. Two that draw over each
other would leave lines behind.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from mygpt_cli.ui.console import stderr_console


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Yield a function that takes what is being done and the fraction that is done; it leaves no trace."""
    from rich.progress import Progress, TaskID

    console = stderr_console()
    if quiet or not _is_free(console):
        yield lambda stage, fraction: None
        return
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, transient=True) as progress:

        def tell(stage: str, fraction: float) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    progress.update(task, visible=False)
                tasks[stage] = progress.add_task(stage, total=1.0)
            progress.update(tasks[stage], completed=fraction)

        yield tell


@contextmanager
def waiting(what: str, *, quiet: bool) -> Iterator[None]:
    """Show beside a spinner what is being done, until it is; it leaves no trace."""
    console = stderr_console()
    if quiet or not _is_free(console):
        yield
        return
    with console.status(Text(what, style="dim")):
        yield


def _is_free(console: Console) -> bool:
    """Whether someone watches there, and nothing is shown yet."""
    from rich.file_proxy import FileProxy

    # While rich shows something, it takes the place of stderr.
    return console.is_terminal and not console.is_dumb_terminal and not isinstance(sys.stderr, FileProxy)

"""What tells of a long work on a terminal, and leaves nothing there."""

import io

import pytest

from mygpt_cli.ui.progress import progress_bar, waiting
from tests.helpers.screens import Terminal


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal, now in the place of stderr."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    found = Terminal()
    monkeypatch.setattr("sys.stderr", found)
    return found


def test_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with waiting("loading", quiet=False):
        pass
    with progress_bar(quiet=False) as tell:
        tell("reading", 0.5)
        tell("looking", 0.25)
    shown = terminal.getvalue()
    assert all(name in shown for name in ("loading", "reading", "looking", "━"))
    assert terminal.lines() == []


def test_one_thing_is_shown_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with progress_bar(quiet=False) as tell:
        tell("reading", 0.5)
        with waiting("loading", quiet=False), progress_bar(quiet=False) as tell_more:
            tell_more("looking", 0.5)
        tell("reading", 1.0)
    with waiting("writing", quiet=False), progress_bar(quiet=False) as tell:
        tell("counting", 0.5)
    shown = terminal.getvalue()
    assert "reading" in shown
    assert "writing" in shown
    assert not any(name in shown for name in ("loading", "looking", "counting"))
    assert terminal.lines() == []


@pytest.mark.parametrize("name", ["xterm", "dumb"])
@pytest.mark.parametrize("quiet", [False, True])
def test_nothing_is_shown_where_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, name: str, quiet: bool
) -> None:
    monkeypatch.setenv("TERM", name)
    for stderr in [io.StringIO(), *([Terminal()] if quiet or name == "dumb" else [])]:
        monkeypatch.setattr("sys.stderr", stderr)
        with waiting("loading", quiet=quiet), progress_bar(quiet=quiet) as tell:
            tell("reading", 0.5)
        assert stderr.getvalue() == ""

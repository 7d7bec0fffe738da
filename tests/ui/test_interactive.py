"""The interactive prompt: its commands, and what stops what; with answers that are written down."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mygpt_cli.base.errors import TextError, UsageError
from mygpt_cli.ui.interactive import Turn, interact
from tests.conftest import Command
from tests.helpers.standins import random_checkpoint

Captured = pytest.CaptureFixture[str]


def talk(
    lines: str, path: Path, monkeypatch: pytest.MonkeyPatch, **given: Any
) -> list[tuple[str, dict[str, Any]]]:
    """Type lines and return what was asked of the model, with which settings; it answers with a `+`."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def respond(turn: Turn, given: dict[str, Any]) -> None:
        if turn.prompt == "bad":
            raise TextError("no such text")
        turn.hear("+")
        if turn.prompt == "stop":
            raise KeyboardInterrupt
        asked.append((turn.prompt, given))
        assert turn.shown == turn.prompt.endswith("+")

    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    interact(given, respond, path / "history")
    return asked


def test_lines_are_prompts_and_commands_change_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    lines = (
        "one\n/set top-k 5\ntwo\n/set --temperature 0\n/set stop  END\nthree\n/set top_k\nfour\n/quit\nx\n"
    )
    assert talk(lines, tmp_path, monkeypatch, temperature=[0.5, 1.0]) == [
        ("one", {"temperature": [0.5, 1.0]}),
        ("two", {"temperature": [0.5, 1.0], "top_k": 5}),
        ("three", {"temperature": 0.0, "top_k": 5, "stop": (" END",)}),
        ("four", {"temperature": 0.0, "stop": (" END",)}),
    ]
    out, err = capsys.readouterr()
    assert out == "\n" * 4
    assert [line.split() for line in err.splitlines()] == [
        ["top-k", "5"],
        ["temperature", "0"],
        ["stop", "'", "END'"],
        ["top-k", "0", "(default)"],
    ]


def test_an_empty_line_continues_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "\none\n\n\nstop\n\nbad\n\n"
    asked = [text for text, _ in talk(lines, tmp_path, monkeypatch)]
    assert asked == ["one", "one+", "one++", "stop+", "stop++"]  # what cannot be read is no text


def test_texts_are_saved_and_replace_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("mine", encoding="utf-8")
    lines = "/save a.txt\none é\n/save\n/save mine.txt\n/save no/where.txt\n"
    lines += "/save 'b c.txt'\n\n/save b c.txt\n"
    talk(lines, tmp_path, monkeypatch)
    assert Path("mine.txt").read_text(encoding="utf-8") == "mine"
    assert Path("b c.txt").read_text(encoding="utf-8") == "one é++"
    assert not Path("a.txt").exists()
    said = " ".join(capsys.readouterr().err.split())
    for words in (
        "there is no text to save yet",
        "/save needs the name of a file",
        "mine.txt exists already",
        "cannot write to no/where.txt",
        "6 characters saved to b c.txt",
        "7 characters saved to b c.txt",
    ):
        assert words in said


def test_what_is_saved_is_utf_8_whatever_the_model_writes() -> None:
    turn = Turn("a")
    turn.hear("\udcff!")
    assert turn.text == "a�!"


def test_values_can_be_quoted_and_prompts_begin_with_a_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "/set begin-with ' x'\n//quit\n///\n/set begin-with 'x\na\n/set begin-with \"\"\nb\n/quit now\nc"
    assert talk(lines, tmp_path, monkeypatch) == [
        ("/quit", {"begin_with": " x"}),
        ("//", {"begin_with": " x"}),
        ("a", {"begin_with": "'x"}),
        ("b", {}),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temprature 1", "there is no setting 'temprature' (did you mean 'temperature'?)"),
        ("/set top-p 2", "--top-p must be at most 1"),
        ("/set top-k many", "'many' is not a whole number"),
        ("/set beams 3", "--temperature has no effect with --beams"),
        ("/sett", "there is no command /sett (did you mean '/set'?)"),
        ("/set", "temperature         0.5\n"),
    ],
)
def test_what_cannot_be_set_is_told_and_changes_nothing(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    given = {"temperature": 0.5}
    assert talk(f"{line}\ngo on\n", tmp_path, monkeypatch, **given) == [("go on", given)]
    shown = capsys.readouterr().err
    assert message in shown
    assert "mygpt" not in shown


def test_an_interrupted_text_is_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [text for text, _ in talk("a\nstop\nb", tmp_path, monkeypatch)] == ["a", "b"]


def test_settings_and_help_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    lines = "/set ban a\x1b\n/set stop ' b'\n/settings\n/help\n"
    assert talk(lines, tmp_path, monkeypatch, temperature=[0.5, 1.0]) == []
    shown = capsys.readouterr().err
    assert "temperature         0.5 1\n" in shown
    assert "top-p               1\n" in shown
    assert "ban                 a␛\n" in shown
    assert "stop                ' b'\n" in shown
    assert "/quit" in shown


@pytest.mark.parametrize("stdin", [io.StringIO(""), None])
def test_without_a_terminal_and_without_a_line_nothing_can_be_asked(
    stdin: io.StringIO | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(UsageError, match="neither a terminal to ask on nor a line to read"):
        interact({}, lambda turn, given: None, tmp_path / "history")
    assert not (tmp_path / "history").exists()


def test_lines_of_a_pipe_are_prompts(mygpt: Command, cycle_run: Path) -> None:
    asked = ("sample", cycle_run, "--interactive", "--max-new-tokens", 3)
    done = mygpt(*asked, input=b"/set temperature 0\nI lo\n\n", cwd=cycle_run)
    assert (done.returncode, done.stdout) == (0, b"I love \nAI \n")  # with what was written before it
    done = mygpt(*asked, input="/set temperature 0\nI lo\nI love é\n".encode())
    assert (done.returncode, done.stdout.decode()) == (0, "I love \n")
    assert "'é'" in done.stderr.decode()  # which the model has never seen
    assert mygpt(*asked).returncode == 2


def test_a_text_that_does_not_go_on_says_why(mygpt: Command, cycle_run: Path) -> None:
    stops = ("--stop", "love", "--stop", "!")
    asked = ("sample", cycle_run, "--interactive", "--temperature", 0, *stops)
    done = mygpt(*asked, input=b"I \nI love\n\n")
    assert (done.returncode, done.stdout) == (0, b"I \nI love AI \n\n")
    assert [line for line in done.stderr.decode().splitlines() if line] == [
        "note: nothing was added: 'love' came next, where --stop ends the text",
        "note: nothing was added: '!' came next, where --stop ends the text",
    ]
    done = mygpt(*asked, "--max-new-tokens", 1, input=b"I love\n")
    assert "note: nothing was added before --max-new-tokens 1 ended the text\n" in done.stderr.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_ctrl_c_stops_the_text_and_ctrl_d_leaves(tmp_path: Path) -> None:
    import pty  # not on Windows

    folder = random_checkpoint(tmp_path / "run")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mygpt_cli", "sample", "--checkpoint", str(folder), "--interactive"]
    command += ["--max-new-tokens", "1000000", "--seed", "1"]
    shown = b""

    def read_until(mark: bytes) -> None:
        nonlocal shown
        while mark not in shown:
            shown += os.read(ours, 4096)
        shown = shown.split(mark, 1)[1]  # the next mark may be there already

    environment = os.environ | {"TERM": "dumb", "MYGPT_CACHE_DIR": str(tmp_path)}
    options: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "env": environment}
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        os.close(theirs)
        late = threading.Timer(60, process.kill)
        late.start()
        read_until(b"> ")
        os.write(ours, b"The cat\n")
        read_until(b"The cat\r\nThe cat")
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        read_until(b"\n> ")
        os.write(ours, b"/set max-new-tokens 3\nA\n")
        read_until(b"\nA")
        read_until(b"\n> ")
        os.write(ours, b"\x04")
        assert process.wait(60) == 0
        late.cancel()
    os.close(ours)
    assert "The cat" in (tmp_path / "history").read_text(encoding="utf-8")

"""Keys that are pressed while a view is redrawn: the terminal keeps them to itself, and is given back."""

import contextlib
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")

PROGRAM = """
import fcntl, os, signal, termios, time
from mygpt_cli.ui.keys import keys_unseen

fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the terminal of this process
signal.signal(signal.SIGINT, signal.default_int_handler)
before = termios.tcgetattr(0)
try:
    with keys_unseen():
        print("begun", flush=True)
        work()
except (KeyboardInterrupt, ZeroDivisionError) as error:
    print(f"ended by {type(error).__name__}")
print("as before" if termios.tcgetattr(0) == before else "not as before")
"""
IN_THE_BACKGROUND = """
def work():
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        with keys_unseen():
            pass
        os._exit(0)
    print("went on" if os.WIFEXITED(os.waitpid(child, os.WUNTRACED)[1]) else "was stopped")
"""


def shown(work: str, typed: bytes = b"") -> list[str]:
    """Do some work on a terminal of its own, where keys are pressed; return the lines that are shown."""
    import pty  # not on Windows

    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", work + PROGRAM]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # the other side has been closed
            while part := os.read(ours, 4096):
                text += part
                if text.endswith(b"begun\r\n"):  # all of it: Ctrl-C throws away what is still on its way
                    os.write(ours, typed)
    os.close(ours)
    assert process.returncode == 0, text.decode()
    return text.decode().split("\r\n")


def test_what_is_typed_is_not_shown_and_ctrl_c_works() -> None:
    lines = shown("def work(): time.sleep(60)", b"typed\r\r\x03")
    assert lines == ["begun", "ended by KeyboardInterrupt", "as before", ""]


@pytest.mark.parametrize(("work", "ended"), [("1 / 0", ["ended by ZeroDivisionError"]), ("None", [])])
def test_the_terminal_is_given_back(work: str, ended: list[str]) -> None:
    assert shown(f"def work(): {work}") == ["begun", *ended, "as before", ""]


def test_a_process_in_the_background_is_not_stopped() -> None:
    assert shown(IN_THE_BACKGROUND) == ["begun", "went on", "as before", ""]

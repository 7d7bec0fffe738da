"""Keys: the terminal keeps them to itself, or gives them one by one, and is then as it was before."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from mygpt_cli.ui.keys import windows_key

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
    time.sleep(0.2)  # the terminal throws away what is written before it has done with Ctrl-C
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


def shown(work: str, typed: bytes = b"", after: bytes = b"begun") -> list[str]:
    """Do some work on a terminal of its own, where keys are pressed; return the lines that are shown."""
    import pty  # not on Windows

    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", work + PROGRAM]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        late = threading.Timer(60, process.kill)
        late.start()
        text = b""
        with contextlib.suppress(OSError):  # the other side has been closed
            while part := os.read(ours, 4096):
                text += part
                if text.endswith(after + b"\r\n"):  # all of it: Ctrl-C throws away what is still on its way
                    os.write(ours, typed)
        late.cancel()
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


ONE_BY_ONE = """
from mygpt_cli.ui.keys import single_keys

def work():
    with single_keys() as key:
        print("waiting", flush=True)
        while (pressed := key()) != "end":
            print(repr(pressed), flush=True)
            if pressed == "z":
                1 / 0
"""


def pressed(typed: str) -> list[str]:
    return shown(ONE_BY_ONE, typed.encode(), b"waiting")[2:-1]


def test_keys_come_one_by_one() -> None:
    typed = "\rb\x1b[C\x1b[D\x1bOC\x7fé\x1b[3~\x04"
    named = ["enter", "b", "right", "left", "right", "backspace", "é", "\x1b[3~"]
    assert pressed(typed) == [*map(repr, named), "as before"]
    assert pressed("az") == ["'a'", "'z'", "ended by ZeroDivisionError", "as before"]
    assert pressed("\x03") == ["ended by KeyboardInterrupt", "as before"]


def test_without_a_terminal_a_line_counts_as_its_first_key() -> None:
    program = f"{ONE_BY_ONE}\nwork()"
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"\nBack\n  q\n", capture_output=True, check=True
    )
    assert done.stdout.split() == [b"waiting", b"'enter'", b"'b'", b"'q'"]


def test_keys_of_windows() -> None:
    console = iter("\r\xe0M\x00K\xe0Hb\x03")

    def read() -> str:
        return next(console)

    assert [windows_key(read) for _ in range(5)] == ["enter", "right", "left", "other", "b"]
    with pytest.raises(KeyboardInterrupt):
        windows_key(read)

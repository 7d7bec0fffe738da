"""Ctrl-C, termination and hanging up: answered at once, or only the second time."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Terminated(BaseException):
    """SIGTERM or SIGHUP, as KeyboardInterrupt is SIGINT; `exit_code` is 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def exit_code_of(reason: str) -> int:
    """Return 128 plus the number of the signal that this names, or 0 where it names none."""
    return 128 + signal.Signals[reason] if reason in signal.Signals.__members__ else 0


class Interruption:
    """While entered, SIGINT, SIGTERM and SIGHUP end the program; the first of them, up to `noted`, do not.

    SIGHUP stays ignored where whoever started the program wanted that, as `nohup` does.
    """

    def __init__(self, noted: int = 1) -> None:
        self.signal: signal.Signals | None = None
        self._left = noted
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only there can signals be answered
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:  # unless someone has decided otherwise since
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._left:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)
        self._left -= 1
        self.signal = signal.Signals(number)

    def reason(self) -> str | None:
        """Return the name of the signal that asked to stop, if one did."""
        return None if self.signal is None else self.signal.name

    @property
    def exit_code(self) -> int:
        """Return 128 plus the signal's number, or 0."""
        return 0 if self.signal is None else 128 + self.signal.value

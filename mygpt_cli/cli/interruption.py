"""Ctrl-C and termination, answered after the current step; a second one leaves at once."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class Interruption:
    """While entered, the first SIGINT, SIGTERM or SIGHUP is noted and a second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if number := getattr(signal, name, None):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    def reason(self) -> str | None:
        """Return the name of the signal that asked to stop, if one did."""
        return None if self.signal is None else self.signal.name

    @property
    def exit_code(self) -> int:
        """Return 128 plus the signal's number, or 0."""
        return 0 if self.signal is None else 128 + self.signal.value

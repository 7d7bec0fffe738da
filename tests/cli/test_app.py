"""The command as a whole: what becomes of errors."""

import pytest

from mygpt_cli.cli import app


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(28, "No space left on device"), 5, "cannot write: No space left on device"),
        (MemoryError(), 5, "memory ran out"),
        (PermissionError(13, "Permission denied", "private"), 2, "private: permission denied"),
        (RuntimeError("no such luck"), 1, "RuntimeError: no such luck"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
    ],
    ids=repr,
)
def test_what_goes_wrong_has_a_code_and_no_traceback(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def failing() -> object:
        raise error

    monkeypatch.setattr(app, "build_app", failing)
    monkeypatch.setattr(app, "silence", lambda stream: None)
    assert app.run([]) == code
    told = capfd.readouterr().err
    assert words in told
    assert "Traceback" not in told
    assert not told or "hint:" in told

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from mygpt_cli.base.locking import try_lock, waited_lock


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    inside = most = 0
    entered: list[int] = []

    def enter(number: int) -> None:
        nonlocal inside, most
        for _ in range(5):
            with waited_lock(path, lambda: None):
                inside += 1
                most = max(most, inside)
                entered.append(number)
                time.sleep(0.001)  # which lets the others in, if anything does
                inside -= 1

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert len(entered) == 20
    assert not path.exists()


def test_waiting_is_told_and_a_removed_file_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    assert try_lock(descriptor)
    looks = 0

    def waiting() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            path.unlink()

    with waited_lock(path, waiting):
        assert path.exists()
        other = os.open(path, os.O_RDWR)
        assert not try_lock(other)
        os.close(other)
    os.close(descriptor)
    assert looks == 2
    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows locks in another way")
def test_without_locks_on_a_file_system_all_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def failing(number: int) -> None:
        def flock(descriptor: int, operation: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    for number, locked in ((errno.ENOLCK, True), (errno.ENOSYS, True), (errno.EAGAIN, False)):
        failing(number)
        with (tmp_path / "lock").open("wb") as file:
            assert try_lock(file.fileno()) is locked

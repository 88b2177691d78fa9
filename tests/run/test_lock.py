"""One at a time: processes, threads, and the same thread again."""

import fcntl
import os
import platform
import threading
from pathlib import Path

import pytest

from holders import held_elsewhere, taken
from rslwm.run.lock import locked
from rslwm.serialisation import ConfigError


def test_another_processs_lock_is_waited_for_and_its_holder_named(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path / "lock") as number,
        pytest.raises(ConfigError, match=rf"in use by another run: lock is locked by process {number} of \S+\."),
        locked(tmp_path / "lock", 0.3),
    ):
        pass
    with locked(tmp_path / "lock", 5):  # its end released it, though it was killed
        assert not taken(tmp_path / "lock")
    assert taken(tmp_path / "lock")


def test_a_holder_that_asks_again_keeps_it_until_the_outer_end(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", 0):
        with locked(tmp_path / "lock", 0):
            pass
        assert not taken(tmp_path / "lock")


def test_a_folder_under_another_name_is_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with locked(tmp_path / "folder/lock", 0):
        with locked(tmp_path / "link/lock", 0):
            pass
        assert not taken(tmp_path / "folder/lock")


def test_threads_of_a_process_exclude_each_other(tmp_path: Path) -> None:
    found: list[str] = []

    def ask() -> None:
        try:
            with locked(tmp_path / "lock", 0):
                found.append("got it")
        except ConfigError as error:
            found.append(str(error))

    with locked(tmp_path / "lock", 0):
        for _ in range(2):
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        assert not taken(tmp_path / "lock")  # asking in vain must not release it
    ask()
    assert "by a thread of this process" in found[0]
    assert found[2] == "got it"


def test_the_file_is_open_for_writing_and_has_a_record_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What NFS asks for; a folder can't be opened like that."""
    modes: list[int] = []
    lockf = fcntl.lockf

    def spy(descriptor: int, command: int) -> None:
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
        lockf(descriptor, command)

    monkeypatch.setattr(fcntl, "lockf", spy)
    with locked(tmp_path / "lock", 0):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()} of {platform.node()}"
    assert modes == [os.O_RDWR]


def test_a_file_that_cannot_be_opened_or_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"can't lock .*missing/lock"), locked(tmp_path / "missing/lock", 0):
        pass

    def refuse(descriptor: int, command: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(ConfigError, match=r"can't lock .*No locks available.*nolock"), locked(tmp_path / "lock", 0):
        pass
    monkeypatch.undo()
    with locked(tmp_path / "lock", 0):
        pass

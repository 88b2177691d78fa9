"""Locks on files and folders that the kernel releases when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rslwm.serialisation import ConfigError


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock on a folder, or on a file (made where missing), which then holds this process's number.

    Raises:
        ConfigError: the file can't be opened, or another process still holds the lock after this many seconds.
    """
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"can't lock {path}: {error}. Make its folder writable, or write to another one.") from None
    try:
        deadline = time.monotonic() + seconds
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                holder = "" if folder else f" by process {os.pread(descriptor, 20, 0).decode()}"
                raise ConfigError(
                    f"{path.parent} is in use by another run: {path.name} is locked{holder}. "
                    "Wait until that run has ended, or write to another folder."
                )
            time.sleep(0.1)
        if not folder:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

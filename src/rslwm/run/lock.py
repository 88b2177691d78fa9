"""Locks on files that are released when their holder dies, on network file systems, too.

They are POSIX record locks (``fcntl.lockf``), which the kernel drops with the process. On NFS the server keeps them for
all machines, until the holder's closes the file, is rebooted or outlives its lease (NFS 4); some systems keep ``flock``
to one machine. So no file's age must be judged by two clocks, and nothing is left to clean up. A server wants the file
open for writing, which a folder can't be; a mount without locks refuses, and that is an error here.

A record lock is a process's: it doesn't keep the process's own threads apart, and is lost when any descriptor of the
file is closed. So this module alone opens these files, and knows which of them are held.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from rslwm.serialisation import ConfigError

_held: dict[Path, int] = {}
"""Which thread of this process holds which file."""
_guard = threading.Lock()


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock on a file, made where missing, which then says which process of which machine holds it; a thread
    may hold it twice. Raises :class:`ConfigError` if it can't be had within so many seconds."""
    path, thread, deadline = path.parent.resolve() / path.name, threading.get_ident(), time.monotonic() + seconds
    if _held.get(path) == thread:
        yield
        return
    _wait(lambda: _claim(path, thread), deadline, path, "a thread of this process")
    try:
        with _opened(path) as file:
            descriptor = file.fileno()
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            _wait(lambda: _try_lock(descriptor, path), deadline, path, holder)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} of {platform.node()}".encode(), 0)
            yield
    finally:
        with _guard:
            del _held[path]


def holder(path: Path) -> str:
    """Which process holds the lock on a file; empty if none does, or there is no such file. It isn't made, and held no
    longer than it takes to ask."""
    path = path.parent.resolve() / path.name
    with _guard:
        if path in _held:  # closing another descriptor of it would give the lock up
            return "this process"
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            return ""
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return os.pread(file.fileno(), 200, 0).decode(errors="replace") or "another process"
            return ""


def _claim(path: Path, thread: int) -> bool:
    with _guard:
        return _held.setdefault(path, thread) == thread


def _opened(path: Path) -> FileIO:
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
    except OSError as error:
        raise ConfigError(f"can't lock {path}: {error}. Make its folder writable, or write to another one.") from None


def _wait(attempt: Callable[[], bool], deadline: float, path: Path, holder: str) -> None:
    while not attempt():
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{path.parent} is in use by another run: {path.name} is locked by {holder}. "
                "Wait until that run has ended, or write to another folder."
            )
        time.sleep(0.1)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise ConfigError(
            f"can't lock {path}: {error}. Has its file system no locks (NFS with nolock)? Write to another."
        ) from None
    return True

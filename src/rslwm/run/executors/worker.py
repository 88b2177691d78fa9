"""A worker process: performs one job after the other and never outlives the process that started it."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from rslwm.run.executors.base import Advanced
from rslwm.run.perform import Failed, Job, perform

PROGRESS_SECONDS = 0.1
WATCH_SECONDS = 0.5


def serve(connection: Connection, parent: int) -> None:
    """Perform the packed jobs that come through ``connection``: the body of a worker process.

    A job that fails ends the process, so that the next one starts from a clean state.
    """
    _die_with(parent)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    while True:
        try:
            packed = connection.recv_bytes()
        except EOFError:
            for number in (1, 2):  # what libraries say as they end is for nobody
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            return
        event = _perform(packed, connection)
        connection.send(event)
        if isinstance(event, Failed):
            raise SystemExit(1)


def _perform(packed: bytes, connection: Connection) -> object:
    try:
        job = Job.unpack(packed)
    except BaseException as error:
        return Failed.by(error)
    return perform(job, _Throttled(connection))


class _Throttled:
    """Sends progress to the main process, at most every PROGRESS_SECONDS."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._due = connection, 0.0

    def __call__(self, done: int, total: int, message: str) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + PROGRESS_SECONDS
            self._connection.send(Advanced(done, total, message))


def _die_with(parent: int) -> None:
    """End this process and all that it starts as soon as the process ``parent`` is gone, however that ended.

    The worker leads a process group of its own, which a stage's own processes belong to: all of it is killed, and a
    Ctrl-C in the terminal reaches the main process only. The kernel's own signal at a parent's death
    (PR_SET_PDEATHSIG) won't do: it comes when the *thread* that started this process ends.
    """
    os.setpgid(0, 0)

    def watch() -> None:
        _wait_for_end_of(parent)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _wait_for_end_of(parent: int) -> None:
    if hasattr(os, "pidfd_open"):
        try:
            ended = select.poll()
            ended.register(os.pidfd_open(parent), select.POLLIN)
            if os.getppid() == parent:  # else the number may be another process's by now
                ended.poll()
        except OSError:  # it is gone, or this kernel has no such descriptors
            pass
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)

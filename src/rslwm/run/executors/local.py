"""Worker processes on this machine, which are started when they are first needed and replaced when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from rslwm.processes import end_with_parent
from rslwm.run.executors.base import EXECUTORS, Advanced, Event, Executor, fits, threads
from rslwm.run.perform import LESS_MEMORY, Done, Failed, Job, perform
from rslwm.run.stage import Stage

PROGRESS_SECONDS = 0.1
GRACE_SECONDS = 5.0
"""For an idle worker to end by itself."""


class Worker:
    """The main process's end of one worker, in which every numerical library gets ``threads`` threads from its
    environment: results must not depend on how many jobs run beside a stage."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, self._theirs = context.Pipe()
        # not a daemon: a stage may start processes of its own
        self.process = context.Process(target=serve, args=(self._theirs,))
        self.threads = threads
        self.job: Job | None = None

    def launch(self) -> None:
        with threads(self.threads), _without_interrupts():
            self.process.start()
        self._theirs.close()

    def idle(self, threads: int) -> bool:
        return self.job is None and self.threads == threads and self.process.is_alive()

    def send(self, job: Job) -> None:
        self.job = job
        with suppress(BrokenPipeError):  # it died while idle; the next poll reports that
            self.connection.send_bytes(job.pack())

    def dismiss(self) -> None:
        """Let an idle worker end by itself: what its libraries clean up at exit would be reported as leaked else."""
        if self.job is None:
            self.connection.close()

    def kill(self) -> None:
        """End the worker, unless it was dismissed and does so itself, and every process that its stage started."""
        if self.process.pid is None:  # interrupted before it was launched
            return
        if self.connection.closed:
            self.process.join(GRACE_SECONDS)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # no group of its own yet, or already gone
            self.process.kill()
        self.process.join()
        self.connection.close()


@EXECUTORS.register("local")
class Local(Executor):
    """Worker processes on this machine."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self._workers: list[Worker] = []

    def room(self, job: Job) -> bool:
        return fits(job.stage, [worker.job.stage for worker in self._workers if worker.job is not None], self.jobs)

    def start(self, job: Job) -> None:
        worker = next((w for w in self._workers if w.idle(job.threads)), None)
        if worker is None:
            worker = Worker(job.threads)
            self._workers.append(worker)  # before it is launched: whatever happens, it will be killed
            worker.launch()
        worker.send(job)

    def poll(self, seconds: float) -> list[tuple[Stage[Any], Event]]:
        """What the workers say. One that dies without a word has failed, with the signal that ended it."""
        wait([w.connection for w in self._workers], seconds)
        reports: list[tuple[Stage[Any], Event]] = []
        for worker in list(self._workers):
            # a process of the stage may hold the pipe open beyond the worker's end, so asking the pipe isn't enough
            alive = worker.process.is_alive()
            events, closed = _drain(worker.connection)
            for event in events:
                assert worker.job is not None
                reports.append((worker.job.stage, event))
                if not isinstance(event, Advanced):
                    worker.job = None
            if closed or not alive or any(isinstance(e, Failed) for e in events):
                self._workers.remove(worker)
                worker.kill()
                if worker.job is not None:
                    reports.append((worker.job.stage, _obituary(worker.process.exitcode)))
        return reports

    def close(self) -> None:
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.kill()
        self._workers.clear()


def _drain(connection: Connection) -> tuple[list[Event], bool]:
    """All messages that have arrived, and whether the other end is gone."""
    events: list[Event] = []
    try:
        while connection.poll():
            events.append(connection.recv())
    except (EOFError, ConnectionResetError):
        return events, True
    return events, False


def _obituary(code: int | None) -> Failed:
    if code is not None and code < 0:
        why = f"its worker process was killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            return Failed(f"{why}, which usually means that memory ran out", LESS_MEMORY)
        return Failed(why)
    return Failed(f"its worker process ended by itself with exit code {code}")


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C, which a process that starts would get before it leads a group of its own; it inherits this."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(connection: Connection) -> None:
    """The body of a worker process: perform the packed jobs that come through ``connection``. One that fails ends the
    process, so that the next one starts from a clean state.

    The worker leads a process group of its own, which a stage's own processes belong to: all of it is killed with the
    main process, and a Ctrl-C in the terminal reaches that one only.
    """
    os.setpgid(0, 0)
    end_with_parent(lambda: os.killpg(os.getpgrp(), signal.SIGKILL))
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


def _perform(packed: bytes, connection: Connection) -> Done | Failed:
    """Do a job, and tell the main process now and then how far it is."""
    try:
        job = Job.unpack(packed)
    except BaseException as error:
        return Failed.by(error)
    due = 0.0

    def report(done: int, total: int, message: str) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + PROGRESS_SECONDS
            connection.send(Advanced(done, total, message))

    return perform(job, report)

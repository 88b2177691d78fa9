"""Persistent worker processes, started when they are first needed and replaced when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType

from rslwm.run.stage import Stage
from rslwm.run.worker import Done, Failed, Job, Progress, serve

Event = Progress | Done | Failed

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LP_NUM_THREADS",
)


GRACE_SECONDS = 5.0
"""For an idle worker to end by itself."""


class Worker:
    """The main process's end of one worker."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, self._theirs = context.Pipe()
        # not a daemon: a stage may start processes of its own
        self.process = context.Process(target=serve, args=(self._theirs, os.getpid(), threads))
        self.threads = threads
        self.job: Job | None = None

    def launch(self) -> None:
        with _threads(self.threads), _without_interrupts():
            self.process.start()
        self._theirs.close()

    def send(self, job: Job) -> None:
        self.job = job
        with suppress(BrokenPipeError):  # it died while idle; the next poll reports that
            self.connection.send(job)

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


class Pool:
    """Up to ``jobs`` workers. Leaving the context kills them all.

    Every numerical library in a worker gets ``threads`` threads from its environment: results must not depend on how
    many jobs run beside a stage.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        self.jobs, self.threads = jobs, threads
        self._workers: list[Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    @property
    def free(self) -> int:
        """How many more jobs can be started now."""
        return self.jobs - sum(w.job is not None for w in self._workers)

    def start(self, job: Job) -> None:
        worker = next((w for w in self._workers if w.job is None and w.process.is_alive()), None)
        if worker is None:
            worker = Worker(self.threads)
            self._workers.append(worker)  # before it is launched: whatever happens, it will be killed
            worker.launch()
        worker.send(job)

    def poll(self, seconds: float) -> list[tuple[Stage, Event]]:
        """What the workers report, waiting at most this long for the first of it.

        A worker that dies without a word is reported as :class:`Failed`, with the signal that ended it.
        """
        wait([w.connection for w in self._workers], seconds)
        reports: list[tuple[Stage, Event]] = []
        for worker in list(self._workers):
            # a process of the stage may hold the pipe open beyond the worker's end, so asking the pipe isn't enough
            alive = worker.process.is_alive()
            events, closed = _drain(worker.connection)
            for event in events:
                assert worker.job is not None
                reports.append((worker.job.stage, event))
                if not isinstance(event, Progress):
                    worker.job = None
            if closed or not alive or any(isinstance(e, Failed) for e in events):
                self._workers.remove(worker)
                worker.kill()
                if worker.job is not None:
                    reports.append((worker.job.stage, _obituary(worker.process.exitcode)))
        return reports


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
        name = signal.Signals(-code).name
        why = f"its worker process was killed by {name}"
        if name == "SIGKILL":
            return Failed(f"{why}, which usually means that memory ran out", "Run with fewer jobs or a smaller batch")
        return Failed(why, "Correct the cause")
    return Failed(f"its worker process ended by itself with exit code {code}", "Correct the cause")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the environment that a process starts with; the libraries read it when they are loaded."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C, which a process that starts would get before it leads a group of its own; it inherits this."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

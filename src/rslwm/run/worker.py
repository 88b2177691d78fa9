"""A worker process: runs one stage after the other, accounts for them, never outlives the process that started it."""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import os
import platform
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from rslwm import __version__
from rslwm.run.lock import locked
from rslwm.run.stage import LOG, Stage, StageRecord, Workspace
from rslwm.serialisation import to_dict

PROGRESS_SECONDS = 0.1
WATCH_SECONDS = 0.5
ORPHAN_SECONDS = 30.0
LOG_LINES = 40
LOCK = ".lock"


@dataclass(frozen=True)
class Job:
    """A stage to run, the folders of its inputs and the folder that it becomes."""

    stage: Stage
    inputs: list[Path]
    folder: Path

    @property
    def partial(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.partial")


@dataclass(frozen=True)
class Progress:
    done: int
    total: int
    message: str


@dataclass(frozen=True)
class Done:
    seconds: float


@dataclass(frozen=True)
class Failed:
    why: str
    remedy: str


class Stopwatch:
    """Wall-clock seconds of a stage over all its attempts, kept in its folder so that a killed attempt counts too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: Path | None = None
        self._before, self._began, self._attempt = 0.0, 0.0, 0

    def start(self, file: Path) -> int:
        """Begin an attempt and return its number."""
        seconds, attempts = file.read_text().split() if file.exists() else ("0", "0")
        with self._lock:
            self._file, self._attempt = file, int(attempts) + 1
            self._before, self._began = float(seconds), time.monotonic()
        self.save()
        return self._attempt

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def save(self) -> None:
        with self._lock:
            if self._file is not None:
                fresh = self._file.with_name(f"{self._file.name}.tmp")
                fresh.write_text(f"{self.seconds():.2f} {self._attempt}")
                fresh.replace(self._file)

    def stop(self) -> float:
        with self._lock:
            assert self._file is not None
            self._file.unlink(missing_ok=True)
            self._file = None
        return self.seconds()


def serve(connection: Connection, parent: int, threads: int) -> None:
    """Run the jobs that come through ``connection``: the body of a worker process.

    A job that fails ends the process, so that the next one starts from a clean state.
    """
    stopwatch = Stopwatch()
    _die_with(parent, stopwatch)
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        try:
            seconds = _perform(job, connection, stopwatch, threads)
        except BaseException as error:  # whatever it is, it belongs to the stage and ends this process
            traceback.print_exc()
            sys.stderr.flush()
            connection.send(Failed("".join(traceback.format_exception_only(error)).strip(), _remedy(error, job)))
            raise SystemExit(1) from None
        connection.send(Done(seconds))


def _perform(job: Job, connection: Connection, stopwatch: Stopwatch, threads: int) -> float:
    """Run a stage in its partial folder, then rename that to the finished one in a single step."""
    job.partial.mkdir(parents=True, exist_ok=True)
    with locked(job.partial / LOCK, ORPHAN_SECONDS):
        _print_to(job.partial / LOG)
        attempt = stopwatch.start(job.partial / ".seconds")
        _reset_peak()
        job.stage.run(Workspace(job.stage.config, job.inputs, job.partial, _Throttled(connection)))
        sys.stdout.flush()
        seconds = stopwatch.stop()
        _record(job, seconds, attempt, threads).write(job.partial)
        job.partial.rename(job.folder)
    (job.folder / LOCK).unlink(missing_ok=True)
    return seconds


class _Throttled:
    """Sends progress to the main process, at most every PROGRESS_SECONDS."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._due = connection, 0.0

    def __call__(self, done: int, total: int, message: str) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + PROGRESS_SECONDS
            self._connection.send(Progress(done, total, message))


def _die_with(parent: int, stopwatch: Stopwatch) -> None:
    """End this process and all that it starts as soon as ``parent`` is gone, however that ended.

    The worker leads a process group of its own, which a stage's own processes belong to: all of it is killed, and a
    Ctrl-C in the terminal reaches the main process only. The kernel's signal comes as a hang-up and not as a kill,
    which would leave the stage's processes behind.
    """
    os.setpgid(0, 0)

    def end() -> None:
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            with suppress(OSError):  # a full disk must not end the watch
                stopwatch.save()
            time.sleep(WATCH_SECONDS)
        end()

    signal.signal(signal.SIGHUP, lambda *_: end())
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGHUP)
    threading.Thread(target=watch, daemon=True).start()


def _print_to(log: Path) -> None:
    """Send what this process prints, C libraries included, to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _reset_peak() -> None:
    with suppress(OSError):  # not Linux, or a container that forbids it
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _record(job: Job, seconds: float, attempt: int, threads: int) -> StageRecord:
    packages = {name: importlib.metadata.version(name) for name in ("numpy", "torch", "mujoco")}
    return StageRecord(
        kind=job.stage.kind,
        name=job.stage.name,
        key=job.stage.key,
        version=job.stage.version,
        config=to_dict(job.stage.config),
        inputs=[s.key for s in job.stage.inputs],
        seconds=round(seconds, 2),
        attempts=attempt,
        peak_bytes=_peak_bytes(),
        threads=threads,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"rslwm": __version__, "python": platform.python_version(), **packages},
        log=(job.partial / LOG).read_text(errors="replace").splitlines()[-LOG_LINES:],
    )


def _remedy(error: BaseException, job: Job) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"Free disk space for {job.folder.parent}"
    if isinstance(error, PermissionError):
        return f"Make {error.filename or job.folder.parent} readable and writable"
    if isinstance(error, MemoryError):
        return "Run with fewer jobs or a smaller batch"
    return "Correct the cause"

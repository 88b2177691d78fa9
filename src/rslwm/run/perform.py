"""One stage in one folder, made and accounted for: what every executor has its processes do."""

from __future__ import annotations

import errno
import faulthandler
import importlib.metadata
import io
import os
import pickle
import platform
import re
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rslwm import __version__
from rslwm.files import write_whole
from rslwm.ranks import together
from rslwm.registry import import_file, imported_files
from rslwm.run.cache import Cache
from rslwm.run.lock import locked
from rslwm.run.stage import LOCK, LOG, RECORD, Demand, Stage, StageRecord, Workspace, closure, sums
from rslwm.types import DataError, Progress, silent

SAVE_SECONDS = 0.5
ORPHAN_SECONDS = 30.0
LOG_LINES = 40
PROGRESS = ".progress"
"""Where an executor whose stages run elsewhere has them say how far they are."""
PARTIAL, FETCHING = ".partial", ".fetching"
"""What the names of folders end in that aren't finished."""
LESS_MEMORY = "Run with fewer jobs or a smaller batch"
NO_MEMORY = re.compile("out of memory|can't allocate memory", re.IGNORECASE)
STUCK_SECONDS = 20.0
"""Beyond its limit, after which a stage's process is ended that can't be interrupted."""


@dataclass(frozen=True)
class Job:
    """A stage to run, below the folder of all stages' folders, how many threads its libraries have, and what it takes
    as far as anybody knows, which only executors elsewhere are told; ``cache`` is the address of one, if it is looked
    up there first, ``limit`` the seconds that it may take, if that isn't 0."""

    stage: Stage[Any]
    root: Path
    threads: int = 1
    demand: Demand = field(default_factory=Demand)
    cache: str = ""
    limit: float = 0.0

    @property
    def folder(self) -> Path:
        return Workspace(self.root, self.root).folder(self.stage)

    @property
    def partial(self) -> Path:
        """Where the stage works until it is finished."""
        return self.folder.with_name(f"{self.folder.name}{PARTIAL}")

    @property
    def fetching(self) -> Path:
        """Where it arrives from a cache."""
        return self.folder.with_name(f"{self.folder.name}{FETCHING}")

    @property
    def finished(self) -> bool:
        return (self.folder / RECORD).is_file()

    def pack(self) -> bytes:
        """The job for another process, which imports the files of its plug-ins from where this one did."""
        return pickle.dumps((imported_files(), pickle.dumps(self)))

    @staticmethod
    def unpack(packed: bytes) -> Job:
        files, job = pickle.loads(packed)
        return _Unpickler(job, files).load()


class _Unpickler(pickle.Unpickler):
    """Imports the files that what it loads is defined in, and no others: they may be broken by now."""

    def __init__(self, pickled: bytes, files: dict[str, Path]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._files = files

    def find_class(self, module: str, name: str) -> Any:
        if module in self._files:
            import_file(self._files[module])
        return super().find_class(module, name)


class Overdue(Exception):
    """A stage took longer than it may."""


@dataclass(frozen=True)
class Done:
    """A stage ended well, in so many seconds: made, or ``fetched`` from a cache of that address; ``trouble`` says
    what is wrong with the cache."""

    seconds: float
    fetched: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Failed:
    """A stage didn't: why, and what to do about it, as the beginning of a sentence."""

    why: str
    remedy: str = "Correct the cause"

    @classmethod
    def by(cls, error: BaseException, root: Path | str = "the run's folder") -> Failed:
        why = "".join(traceback.format_exception_only(error)).strip()
        match error:
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                return cls(why, f"Free disk space for {root}")
            case PermissionError():
                return cls(why, f"Make {error.filename or root} readable and writable")
            case MemoryError():
                return cls(why, LESS_MEMORY)
            case RuntimeError() if NO_MEMORY.search(why):  # what torch raises
                return cls(why, LESS_MEMORY)
            case Overdue():
                return cls(
                    str(error), "If it hangs, its log shows where; else give it more time (--compute.stage-minutes)"
                )
        return cls(why)


def perform(job: Job, report: Progress = silent, patience: float = ORPHAN_SECONDS) -> Done | Failed:
    """Run a stage in its partial folder, then rename that to the finished one in a single step. What the process prints
    meanwhile goes to the stage's log, so it performs one job at a time.

    An earlier attempt may still be at it where nobody could end it: that has so many seconds of ``patience`` to end,
    and if it ends well its output is the result.
    """
    try:
        if job.finished:
            return _found(job)
        job.partial.mkdir(parents=True, exist_ok=True)
        with locked(job.partial / LOCK, patience):
            if job.finished:  # while this one waited, or just before it made the folder
                shutil.rmtree(job.partial, ignore_errors=True)
                return _found(job)
            with _printing_to(job.partial / LOG):
                done = _obtain(job, report)
        (job.folder / LOCK).unlink(missing_ok=True)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it is, a SystemExit, too, it belongs to the stage
        return Failed.by(error, job.root)
    return done


def _found(job: Job) -> Done:
    record = StageRecord.read(job.folder)
    return Done(record.seconds, record.fetched)


def _obtain(job: Job, report: Progress) -> Done:
    """Fetch a stage's output or, where the cache hasn't got it, make it and push it there. Whatever is wrong with the
    cache costs time, and no result."""
    if not job.cache or not job.stage.portable:
        return Done(_run(job, report))
    cache, began, trouble = Cache(job.cache), time.monotonic(), ""
    try:
        if (record := cache.fetch(job.stage, job.fetching, report)) is not None:
            job.fetching.mkdir(exist_ok=True)  # of a stage that leaves no files
            record.write(job.fetching)
            job.fetching.rename(job.folder)
            shutil.rmtree(job.partial)
            return Done(time.monotonic() - began, record.fetched)
    except DataError as error:
        shutil.rmtree(job.fetching, ignore_errors=True)
        trouble = f"{error}; made instead of fetched"
    seconds = _run(job, report)
    try:
        cache.push(job.stage, StageRecord.read(job.folder), job.folder, report, anew=bool(trouble))
    except DataError as error:
        trouble = " ".join(filter(None, (trouble, f"Not pushed to the cache: {error}")))
    return Done(seconds, trouble=trouble)


def _run(job: Job, report: Progress) -> float:
    work = Workspace(job.partial, job.root, report)
    work.close_all_but(closure([job.stage]))
    with Stopwatch(job.partial / ".seconds") as watch:
        _reset_peak()
        try:
            with _limited(job.limit):
                if job.stage.processes == 1:
                    job.stage.run(work)
                else:
                    together(partial(_take_part, job.pack()), job.stage.processes, report)
        except BaseException:
            traceback.print_exc()
            raise
    sys.stdout.flush()
    for own in (watch.file, job.partial / PROGRESS):
        own.unlink(missing_ok=True)
    _record(job, watch).write(job.partial)
    job.partial.rename(job.folder)
    return watch.seconds


def _take_part(packed: bytes, report: Progress) -> None:
    job = Job.unpack(packed)
    job.stage.run(Workspace(job.partial, job.root, report))


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise :class:`Overdue` after so many seconds, wherever this process is by then. Where it is beyond Python's reach
    it ends a little later, with a trace of all its threads in the log. No limit for 0, nor but in the main thread."""
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def overdue(*_: object) -> None:
        raise Overdue(f"it took longer than {seconds / 60:.3g} minutes")

    before = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + STUCK_SECONDS, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Stopwatch:
    """Wall-clock seconds of a stage over all its attempts, kept in its folder so that a killed attempt counts too."""

    def __init__(self, file: Path) -> None:
        seconds, attempts = file.read_text().split() if file.exists() else ("0", "0")
        self.file, self.attempt = file, int(attempts) + 1
        self._began = time.monotonic() - float(seconds)
        self._stop = threading.Event()
        self._saver = threading.Thread(target=self._keep_saving, daemon=True)

    def __enter__(self) -> Stopwatch:
        self._save()
        self._saver.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._saver.join()
        self._save()

    def _save(self) -> None:
        self.seconds = time.monotonic() - self._began
        with suppress(OSError):  # a full disk, which the stage will notice by itself
            write_whole(self.file, f"{self.seconds:.2f} {self.attempt}")

    def _keep_saving(self) -> None:
        while not self._stop.wait(SAVE_SECONDS):
            self._save()


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Send what this process prints, C libraries included, to the end of a file."""
    before = [(number, os.dup(number)) for number in (1, 2)]
    with log.open("a") as file:
        _redirect([(number, file.fileno()) for number, _ in before])
    try:
        yield
    finally:
        _redirect(before)
        for _, copy in before:
            os.close(copy)


def _redirect(targets: list[tuple[int, int]]) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number, target in targets:
        os.dup2(target, number)


def _reset_peak() -> None:
    with suppress(OSError):  # not Linux, or a container that forbids it
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    if (status := Path("/proc/self/status")).exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _record(job: Job, watch: Stopwatch) -> StageRecord:
    stage, packages = job.stage, {name: importlib.metadata.version(name) for name in ("numpy", "torch", "mujoco")}
    return StageRecord(
        kind=stage.kind,
        label=stage.label,
        key=stage.key,
        version=stage.edition,
        config=stage.config,
        needs={name: need.key for name, need in stage.needs.items()},
        seconds=round(watch.seconds, 2),
        attempts=watch.attempt,
        peak_bytes=_peak_bytes(),
        threads=job.threads,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"rslwm": __version__, "python": platform.python_version(), **packages},
        log=(job.partial / LOG).read_text(errors="replace").splitlines()[-LOG_LINES:],
        files=sums(job.partial, job.threads),
    )

"""Stages on other machines, which see the run's folder under the same path: word of them comes back through files.

Nothing is lost with the process that started them: what a stage has done, and how far it is, is in its folder.
"""

from __future__ import annotations

import importlib
import json
import platform
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from rslwm.files import write_whole
from rslwm.run.executors.base import Advanced, Event, Executor
from rslwm.run.perform import PROGRESS, Done, Failed, Job, perform
from rslwm.run.stage import RECORD, Stage
from rslwm.serialisation import ConfigError
from rslwm.types import DataError

PROGRESS_SECONDS = 2.0
PATIENCE = 300.0
"""Seconds that an earlier attempt has to end which nobody can reach: a node cut off from the others notices after about
a minute, and a network file system keeps the locks of one that is gone for up to a few."""
VISIBLE_SECONDS = 60.0
"""How long a network file system may take to show on one machine what was written on another."""
SHARED = "Put --out on a file system that every machine sees under the same path"


def perform_packed(packed: bytes) -> Done | Failed:
    """Do a job on another machine: what :meth:`Elsewhere.start` has done there, with :meth:`Job.pack` of the job."""
    try:
        job = Job.unpack(packed)
        _await_needs(job)
    except KeyboardInterrupt:
        raise
    except DataError as error:
        return Failed(str(error), SHARED)
    except BaseException as error:
        return Failed.by(error)
    return perform(job, Note(job.partial / PROGRESS), PATIENCE)


def _await_needs(job: Job) -> None:
    """Raises :class:`DataError` if a need's output doesn't appear."""
    for need in job.stage.needs.values():
        folder = Job(need, job.root).folder
        if not appears(folder / RECORD):
            raise DataError(f"{folder} of {need} can't be seen on {platform.node()}")


def appears(path: Path, seconds: float | None = None) -> bool:
    """Whether a file is there within so many seconds, :data:`VISIBLE_SECONDS` if none are given."""
    deadline = time.monotonic() + (VISIBLE_SECONDS if seconds is None else seconds)
    while not path.is_file():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class Note:
    """Notes how far a stage is in a file of its folder, every few seconds."""

    def __init__(self, file: Path) -> None:
        self.file, self._due = file, 0.0

    def __call__(self, done: int, total: int, message: str) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + PROGRESS_SECONDS
            with suppress(OSError):  # a full disk, which the stage will notice by itself
                write_whole(self.file, json.dumps([done, total, message]))


def needed(executor: str, module: str, extra: str) -> ModuleType:
    """The library that an executor works through; :class:`ConfigError` if it isn't installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        remedy = f"pip install 'rslwm[{extra}]'"
        raise ConfigError(f"executor: {executor} needs the package {module} ({error}): {remedy}") from None


def in_gb(number: float) -> str:
    """4.0 GB"""
    return f"{number / 1e9:.1f} GB"


class Elsewhere(Executor):
    """What executors on other machines share. A handle is what their library gave for a job."""

    elsewhere: ClassVar[bool] = True

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self.running: dict[Any, Job] = {}
        """By their handles."""
        self._told: dict[Stage[Any], Advanced] = {}
        self._due = 0.0

    @abstractmethod
    def submit(self, job: Job) -> Any:
        """Hand a job over to :func:`perform_packed` somewhere; gives its handle."""

    @abstractmethod
    def ended(self, seconds: float) -> Iterator[tuple[Any, Done | Failed]]:
        """Handles of jobs that have ended, and how, waiting at most this long for the first."""

    def start(self, job: Job) -> None:
        self.running[self.submit(job)] = job

    def poll(self, seconds: float) -> list[tuple[Stage[Any], Event]]:
        """What has ended, and every few seconds how far the others are."""
        events: list[tuple[Stage[Any], Event]] = []
        for handle, outcome in self.ended(seconds):
            job = self.running.pop(handle)
            self._told.pop(job.stage, None)
            events.append((job.stage, _seen(job, outcome)))
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + PROGRESS_SECONDS
            events += self._advances()
        return events

    def _advances(self) -> Iterator[tuple[Stage[Any], Advanced]]:
        for job in self.running.values():
            news = _noted(job.partial / PROGRESS)
            if news is not None and news != self._told.get(job.stage):
                self._told[job.stage] = news
                yield job.stage, news


def _seen(job: Job, outcome: Done | Failed) -> Done | Failed:
    """Whether what was done elsewhere has arrived here, too."""
    if isinstance(outcome, Failed) or appears(job.folder / RECORD):
        return outcome
    return Failed(f"it ended well, but its output {job.folder} can't be seen on {platform.node()}", SHARED)


def _noted(file: Path) -> Advanced | None:
    try:
        return Advanced(*json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):  # none yet, or no longer
        return None

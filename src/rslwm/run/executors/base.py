"""Where stages run: an executor starts jobs, says what becomes of them, and ends them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from rslwm.registry import Registry, import_below, split
from rslwm.run.perform import Done, Failed, Job
from rslwm.run.stage import Stage
from rslwm.serialisation import ConfigError, with_options

THREAD_VARIABLES = [f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "LP")]


@dataclass(frozen=True)
class Advanced:
    """How far a running stage is."""

    done: int
    total: int
    message: str


Event = Advanced | Done | Failed


class Executor(ABC):
    """Runs up to ``jobs`` stages side by side, for one run at a time. Wherever a job is done, :meth:`Job.unpack` makes
    it of what :meth:`Job.pack` gave, and :func:`rslwm.run.perform.perform` does it; both ends see the same folders."""

    Config: ClassVar[type | None] = None
    """A frozen dataclass of settings, if it has any. They are written as NAME[FIELD=VALUE,...], and the class is called
    with them as ``config``, after ``jobs``."""
    elsewhere: ClassVar[bool] = False
    """Whether stages run on other machines. Jobs then come with what they demand, and ``jobs`` is 0 where nobody said
    how many, instead of as many as fit the cores of this one."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def prepare(self, jobs: Sequence[Job]) -> None:  # noqa: B027
        """Hear of all that this run may start, before it starts anything; :attr:`jobs` is above 0 from then on.

        Raises:
            ConfigError: one of them could never run here; names the stage, what it takes and the remedy.
        """

    @abstractmethod
    def room(self, job: Job) -> bool:
        """Whether this job could start now beside those that run."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Start a job that there is room for."""

    @abstractmethod
    def poll(self, seconds: float) -> list[tuple[Stage[Any], Event]]:
        """What has happened to running stages, waiting at most this long for the first of it. The last that is told of
        each is :class:`Done` or :class:`Failed`, also where its process or machine dies."""

    @abstractmethod
    def close(self) -> None:
        """End all that still runs, and the processes that it started."""


EXECUTORS: Registry[type[Executor]] = Registry(
    "executor", "rslwm.executors", lambda: import_below("rslwm.run.executors")
)


def chosen(reference: str) -> tuple[type[Executor], dict[str, Any]]:
    """The class that ``NAME[FIELD=VALUE,...]`` or ``file.py:Class[...]`` names, and what to call it with beside jobs.

    Raises:
        UnknownName: nothing answers to the name.
        ConfigError: the text has another form, or an option is no setting of that executor or of another type.
    """
    name, options = split(reference, "executor", "local, ray[address=auto] or slurm[partition=gpu,minutes=600]")
    executor = EXECUTORS.get(name)
    if executor.Config is None:
        if options:
            raise ConfigError(f"executor: {reference!r}: {name} has no settings; leave the brackets out")
        return executor, {}
    return executor, {"config": with_options(executor.Config(), options, "executor", reference)}


def fits(stage: Stage[Any], running: Collection[Stage[Any]], jobs: int) -> bool:
    """Whether a stage could start on one machine beside these: they have fewer than ``jobs`` processes with its own,
    and an exclusive one has the machine for itself."""
    if stage.exclusive or not running:
        return not running
    return sum(s.processes for s in [*running, stage]) <= jobs and not any(other.exclusive for other in running)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the environment that a process starts with, so that every numerical library gets so many threads; they read
    it when they are loaded."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    try:
        yield
    finally:
        for name in THREAD_VARIABLES:
            del os.environ[name]
        os.environ.update(before)

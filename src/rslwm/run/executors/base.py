"""Where stages run: an executor starts jobs, says what becomes of them, and ends them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from rslwm.registry import Registry
from rslwm.run.perform import Done, Failed, Job
from rslwm.run.stage import Stage


@dataclass(frozen=True)
class Advanced:
    """How far a running stage is."""

    done: int
    total: int
    message: str


Event = Advanced | Done | Failed


class Executor(ABC):
    """Runs up to ``jobs`` stages side by side, for one run at a time.

    Wherever a job is done, :meth:`Job.unpack` makes it of what :meth:`Job.pack` gave, and
    :func:`rslwm.run.perform.perform` does it. Both ends see the same folders.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    @abstractmethod
    def room(self, stage: Stage[Any]) -> bool:
        """Whether this stage could start now beside those that run."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Start a job that there is room for."""

    @abstractmethod
    def poll(self, seconds: float) -> list[tuple[Stage[Any], Event]]:
        """What has happened to running stages, waiting at most this long for the first of it.

        The last that is told of each is :class:`Done` or :class:`Failed`, also where its process or machine dies.
        """

    @abstractmethod
    def close(self) -> None:
        """End all that still runs, and the processes that it started."""


def _load_builtin() -> None:
    import_module("rslwm.run.executors.local")


EXECUTORS: Registry[type[Executor]] = Registry("executor", "rslwm.executors", _load_builtin)

"""A stage of a study: a pure function of its configuration and of its inputs' outputs, with one folder to write to."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from rslwm.serialisation import ConfigError, content_hash, determining, to_dict
from rslwm.types import DataError

RECORD = "stage.json"
LOG = "log.txt"

Report = Callable[[int, int, str], None]


def _silent(done: int, total: int, message: str) -> None:
    pass


@dataclass(frozen=True)
class Workspace:
    """What a stage's function gets.

    ``inputs`` are the finished folders of its inputs, in their order. ``out`` is its own folder; it survives a kill, so
    checkpoints written there (atomically) let the next attempt resume. What the function prints goes to
    ``out/log.txt``.
    """

    config: Any
    inputs: list[Path]
    out: Path
    report: Report = _silent

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Say how far the stage is; cheap enough for every training step."""
        self.report(done, total, message)


VERSIONED: list[Callable[[Workspace], None]] = []
"""The stages' functions that say which version of their results they make."""


def versioned(number: int) -> Callable[[Callable[[Workspace], None]], Callable[[Workspace], None]]:
    """Decorator of a stage's function. The number is part of the key of its stages; raise it when results change, see
    :mod:`rslwm.study.versions`."""

    def mark(run: Callable[[Workspace], None]) -> Callable[[Workspace], None]:
        run.version = number  # type: ignore[attr-defined]
        VERSIONED.append(run)
        return run

    return mark


@dataclass(frozen=True, eq=False)
class Stage:
    """One node of a study's graph. Two stages with the same :attr:`key` are the same stage, whatever their names.

    ``run`` must be a module-level function, since worker processes import it. ``cost`` is the estimated seconds, for
    the order of work and the remaining time. An ``exclusive`` stage keeps all cores busy with processes of its own and
    runs while no other does.

    Raises:
        ValueError: ``kind`` can't be a folder name, ``run`` can't be imported, or ``cost`` is negative.
        ConfigError: ``config`` holds something that has no JSON form.
    """

    kind: str
    name: str
    run: Callable[[Workspace], None]
    config: Any = None
    inputs: tuple[Stage, ...] = ()
    cost: float = 1.0
    exclusive: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.kind):
            raise ValueError(f"stage {self.name!r}: kind {self.kind!r} must be lower-case letters, digits, - and _")
        module = sys.modules.get(getattr(self.run, "__module__", ""))
        if getattr(module, getattr(self.run, "__qualname__", ""), None) is not self.run:
            raise ValueError(f"{self}: run={self.run!r} must be a module-level function, so that workers can import it")
        if not self.cost >= 0:
            raise ValueError(f"{self}: cost={self.cost} must be a number of seconds, 0 or more")

    @property
    def version(self) -> int:
        """Of the results that ``run`` makes of a config and inputs, see :func:`versioned`."""
        return getattr(self.run, "version", 1)

    @cached_property
    def key(self) -> str:
        """Hash of everything that determines the output: kind, version, the inputs' keys, and of the config what
        :func:`rslwm.serialisation.determining` leaves of it."""
        try:
            return content_hash(self.kind, self.version, determining(self.config), [s.key for s in self.inputs])
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the config of {self} can't be hashed: {error}. Use JSON types, finite numbers."
            ) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stage) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def closure(stages: Iterable[Stage]) -> list[Stage]:
    """These stages and all their inputs, inputs first, each key once (under the first name that it came with)."""
    found: dict[Stage, None] = {}

    def visit(stage: Stage) -> None:
        if stage not in found:
            for source in stage.inputs:
                visit(source)
            found[stage] = None

    for stage in stages:
        visit(stage)
    return list(found)


@dataclass(frozen=True)
class StageRecord:
    """``stage.json`` in a finished folder: what it holds and what it took. Its presence makes the folder finished."""

    kind: str
    name: str
    key: str
    version: int
    config: Any
    inputs: list[str]
    """Keys of the inputs."""
    seconds: float
    """Wall-clock seconds of all attempts together, to within a second for each one that was killed."""
    attempts: int
    peak_bytes: int
    """Largest resident memory of the worker process during the last attempt. It includes the imports that the process
    already held and not the processes that the stage started. Where the kernel can't reset it (not Linux), it is the
    largest since the worker began."""
    threads: int
    finished: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    log: list[str]
    """The last lines that the stage printed; ``log.txt`` beside this file has all of them."""

    def write(self, folder: Path) -> None:
        (folder / RECORD).write_text(json.dumps(to_dict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> StageRecord:
        """The record of a finished stage's folder.

        Raises:
            DataError: the folder has no ``stage.json``, or it lacks a field.
        """
        path = folder / RECORD
        try:
            values = json.loads(path.read_text())
            return cls(**{f.name: values[f.name] for f in fields(cls)})
        except FileNotFoundError:
            raise DataError(f"{path} does not exist: {folder} is not the output of a finished stage") from None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path}: {error!r}. Delete {folder} and run again.") from None

"""A stage: a pure function of its configuration and of what other stages made, with one folder to write to."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from rslwm.files import sha256, write_whole
from rslwm.registry import code_of
from rslwm.serialisation import ConfigError, content_hash, determining, to_dict
from rslwm.types import DataError, Progress, silent

RECORD = "stage.json"
LOG = "log.txt"
LOCK = ".lock"
FACTS = "facts.json"
OPENED = 8
"""Outputs that a process keeps open."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_opened: OrderedDict[Path, Any] = OrderedDict()
"""By their folders, which never change, since their names say what is in them; the last used comes last."""


@dataclass(frozen=True)
class Demand:
    """What a stage takes, or several: floating-point operations, bytes on disk, and bytes of memory while it runs, on
    the device that it computes on."""

    flops: float = 0.0
    disk: float = 0.0
    memory: float = 0.0

    def __add__(self, other: Demand) -> Demand:
        """Of two stages, one after the other."""
        return Demand(self.flops + other.flops, self.disk + other.disk, max(self.memory, other.memory))


@dataclass(frozen=True)
class Workspace:
    """What a stage gets to run with: ``out``, its own folder, and ``root``, which holds those of all finished stages.

    ``out`` survives a kill, so what is written there (atomically) lets the next attempt resume; ``out/log.txt`` gets
    what the stage prints.
    """

    out: Path
    root: Path
    progress: Progress = silent
    """Say how far the stage is; cheap enough for every training step."""

    def folder(self, stage: Stage[Any]) -> Path:
        """Where the stage's output is, once it is finished."""
        return self.root / f"{stage.kind}-{stage.key}"

    def open(self, stage: Stage[T]) -> T:
        """What a finished stage made, see :meth:`Stage.open`. All who ask get the same object, so leave it as it is."""
        folder = self.folder(stage)
        if folder not in _opened:
            _opened[folder] = stage.open(replace(self, out=folder, progress=silent))
        _opened.move_to_end(folder)
        while len(_opened) > OPENED:
            _opened.popitem(last=False)
        return _opened[folder]

    def close_all_but(self, stages: Iterable[Stage[Any]]) -> None:
        """Let go of what this process has opened and these stages aren't."""
        kept = set(map(self.folder, stages))
        for folder in [folder for folder in _opened if folder not in kept]:
            del _opened[folder]

    def write_facts(self, **facts: Any) -> None:
        """Add to ``facts.json``: small numbers and names, of JSON types, that are read without opening the output."""
        write_whole(self.out / FACTS, json.dumps({**_facts(self.out), **facts}, indent=1))

    def facts(self, stage: Stage[Any]) -> dict[str, Any]:
        """What a finished stage noted by :meth:`write_facts`; empty if it noted nothing."""
        return _facts(self.folder(stage))


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / FACTS
    return json.loads(path.read_text()) if path.exists() else {}


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage(Generic[T_co]):
    """One node of a graph of work, whose output is a ``T_co``. Two of the same :attr:`key` are the same stage.

    A kind of stage is a subclass, decorated ``@dataclass(frozen=True, eq=False, kw_only=True)``. Its fields that hold a
    stage, or a tuple of stages, are its *needs*; all others are its configuration, of which the key has what
    :func:`rslwm.serialisation.determining` leaves. Raise ``version`` when the same configuration gives other results;
    of a class outside the package the key holds the code itself.

    Raises:
        TypeError: the subclass compares by its fields and not by its key.
        ValueError: ``kind`` can't be a folder's name.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    spared: ClassVar[bool] = False
    """Whether a run succeeds without this stage's output: its failure is reported, and tried again by the next run."""

    label: str
    """For people; no part of what the stage is."""

    def __post_init__(self) -> None:
        if type(self).__eq__ is not Stage.__eq__:
            raise TypeError(f"{type(self).__name__} must be a @dataclass(frozen=True, eq=False, kw_only=True)")
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.kind):
            raise ValueError(f"{self}: kind {self.kind!r} must be lower-case letters, digits, - and _")

    def run(self, work: Workspace) -> None:
        """Make the output in ``work.out``. Goes on from what an attempt that was killed or failed left there."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    def open(self, work: Workspace) -> T_co:
        """The finished output in ``work.out`` as an object; the folder itself, unless a subclass knows better."""
        return cast(T_co, work.out)

    def demand(self, sizes: Any) -> Demand:
        """What the stage takes, given what is known of the data before anything runs."""
        return Demand()

    @property
    def seconds(self) -> float:
        """Rough cost, for the order of work and the first estimate of the time left."""
        return 1.0

    @property
    def exclusive(self) -> bool:
        """Whether it keeps all cores busy with processes of its own, and so runs while no other stage does."""
        return False

    @property
    def portable(self) -> bool:
        """Whether its output means the same on another machine, and so may come from a cache."""
        return True

    @property
    def processes(self) -> int:
        """How many processes of one machine run it at once, and find each other through torch.distributed; all but the
        first leave its folder alone and end with SystemExit."""
        return 1

    @property
    def accelerated(self) -> bool:
        """Whether it computes on a GPU, whose memory its demand is then about."""
        return False

    @cached_property
    def needs(self) -> dict[str, Stage[Any]]:
        """The stages that this one reads, by the names of their fields; those of a tuple are name.0, name.1 and on."""
        return {name: stage for f in fields(self) for name, stage in _stages(f.name, getattr(self, f.name))}

    @property
    def config(self) -> dict[str, Any]:
        """All fields that are no needs, as JSON types."""
        return to_dict(self, self._settings)

    @property
    def _settings(self) -> set[str]:
        needs = {name.partition(".")[0] for name in self.needs}
        return {f.name for f in fields(self)} - needs - {"label"}

    @cached_property
    def edition(self) -> str:
        """The version that the class declares and, if it is outside the package, the hash of its code."""
        return f"{self.version}{code_of(type(self))}"

    @cached_property
    def key(self) -> str:
        """Hash of everything that determines the output: kind, edition, configuration, and the keys of the needs;
        :class:`ConfigError` if a field has no JSON form."""
        needs = {name: stage.key for name, stage in self.needs.items()}
        try:
            return content_hash(self.kind, self.edition, determining(self, self._settings), needs)
        except (TypeError, ValueError) as error:
            message = f"the config of {self} can't be hashed: {error}. Use JSON types, finite numbers."
            raise ConfigError(message) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stage) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return f"{self.kind} {self.label}"


def _stages(name: str, value: Any) -> Iterator[tuple[str, Stage[Any]]]:
    if isinstance(value, Stage):
        yield name, value
    elif isinstance(value, tuple) and any(isinstance(entry, Stage) for entry in value):
        yield from ((f"{name}.{i}", entry) for i, entry in enumerate(value))


def closure(stages: Iterable[Stage[Any]]) -> list[Stage[Any]]:
    """These stages and all that they need, needs first, each key once (under the first label that it came with)."""
    found: dict[Stage[Any], None] = {}

    def visit(stage: Stage[Any]) -> None:
        if stage not in found:
            for need in stage.needs.values():
                visit(need)
            found[stage] = None

    for stage in stages:
        visit(stage)
    return list(found)


@dataclass(frozen=True)
class Sum:
    """What a file holds: its size, and its content as SHA-256 in hex digits."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Sum:
        return cls(path.stat().st_size, sha256(path))


def sums(folder: Path, processes: int = 1) -> dict[str, Sum]:
    """Of what a stage left in its folder, by name: all but its record, its log and the lock."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in found if name not in (RECORD, LOG, LOCK)]
    with ThreadPoolExecutor(processes) as pool:
        return dict(zip(names, pool.map(lambda name: Sum.of(folder / name), names), strict=True))


@dataclass(frozen=True)
class StageRecord:
    """``stage.json`` in a finished folder: what it holds and what it took. Its presence makes the folder finished."""

    kind: str
    label: str
    key: str
    version: str
    config: dict[str, Any]
    needs: dict[str, str]
    """Keys of the needs by name."""
    seconds: float
    """Wall-clock seconds of all attempts together, to within a second for each one that was killed."""
    attempts: int
    peak_bytes: int
    """Largest resident memory of the process that ran it during the last attempt, with its imports and without the
    processes that the stage started; where the kernel can't reset it (not Linux), since the process began."""
    threads: int
    finished: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    log: list[str]
    """The last lines that the stage printed; ``log.txt`` beside this file has all of them."""
    files: dict[str, Sum] | None = None
    """What was in the folder when the stage ended, but for this file and the log; None in records of before 2026-12."""
    fetched: str = ""
    """The address of the cache that it comes from, where it wasn't made here."""

    def write(self, folder: Path) -> None:
        (folder / RECORD).write_text(self.text())

    def text(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> StageRecord:
        """The record in a folder; :class:`DataError` if it isn't a finished stage's."""
        path = folder / RECORD
        try:
            return cls.parse(path.read_bytes())
        except FileNotFoundError:
            raise DataError(f"{path} does not exist: {folder} is not the output of a finished stage") from None
        except ValueError as error:
            raise DataError(f"{path}: {error}. Delete {folder} and run again.") from None

    @classmethod
    def parse(cls, text: bytes) -> StageRecord:
        """Raises :class:`ValueError` if that is no record."""
        try:
            values = {"files": None, "fetched": "", **json.loads(text)}
            if values["files"] is not None:
                values["files"] = {name: Sum(**known) for name, known in values["files"].items()}
            return cls(**{f.name: values[f.name] for f in fields(cls)})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(repr(error)) from None

"""The stage folders of a run, checked against what was noted when they were written, and rid of what nobody needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rslwm.run.lock import holder, locked
from rslwm.run.perform import FETCHING, PARTIAL
from rslwm.run.plan import latest
from rslwm.run.runner import LOCK_SECONDS
from rslwm.run.stage import LOCK, RECORD, StageRecord, Sum
from rslwm.types import DataError, Progress, silent

STAGES = "stages"
DELETED = ".deleted"
"""What the name of a folder ends in that is being deleted: whoever looks meanwhile finds none of its own name."""
Damage = Literal["record", "missing", "size", "content"]


def size(folder: Path) -> int:
    """Bytes of all files below a folder, each as often as it is there, and of links nothing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def finished(root: Path) -> list[Path]:
    """The folders of a run that bear the name of a finished stage, sorted."""
    ends = (PARTIAL, FETCHING, DELETED)
    return sorted(p for p in (root / STAGES).glob("*") if p.is_dir() and not p.name.endswith(ends))


def owner(partial: Path) -> str:
    """The process that works in an unfinished folder; empty if none does."""
    return holder(partial.with_suffix(PARTIAL) / LOCK)


@dataclass(frozen=True)
class Finding:
    """A file that isn't what it was when its stage ended."""

    stage: str
    folder: Path
    damage: Damage
    what: str

    def __str__(self) -> str:
        return f"{self.damage}: stage {self.stage}: {self.what}"


@dataclass
class Verified:
    """What was found: ``unverifiable`` are stages from before 2026-12, whose records don't say what they wrote."""

    stages: int = 0
    files: int = 0
    bytes: int = 0
    unverifiable: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def verify(root: Path, progress: Progress = silent) -> Verified:
    """Read every file of every finished stage and compare it with the stage's record. Files beside these, which other
    tools leave, are nobody's business."""
    found, folders = Verified(), finished(root)
    for number, folder in enumerate(folders, 1):
        try:
            record = StageRecord.read(folder)
        except DataError as error:
            found.findings.append(Finding(folder.name, folder, "record", str(error)))
            continue
        name = f"{record.kind} {record.label}"
        if record.files is None:
            found.unverifiable.append(name)
            continue
        found.stages += 1
        found.files += len(record.files)
        found.bytes += sum(known.bytes for known in record.files.values())
        found.findings += _damages(name, folder, record.files)
        progress(number, len(folders), name)
    return found


def _damages(stage: str, folder: Path, files: dict[str, Sum]) -> Iterator[Finding]:
    for name, known in files.items():
        path = folder / name
        if not path.is_file():
            yield Finding(stage, folder, "missing", f"{path} is gone")
        elif (there := path.stat().st_size) != known.bytes:
            yield Finding(stage, folder, "size", f"{path} has {there:,} of {known.bytes:,} bytes")
        elif (now := Sum.of(path).sha256) != known.sha256:
            what = f"{path} has SHA-256 {now[:12]}..., and had {known.sha256[:12]}... when the stage ended"
            yield Finding(stage, folder, "content", what)


@dataclass(frozen=True)
class Garbage:
    """A folder that no plan of its run needs, and why not."""

    folder: Path
    why: str
    bytes: int


def garbage(root: Path, partial: bool = False) -> list[Garbage]:
    """What can be deleted from a run's folder without a command having to make it again; with ``partial`` also what a
    killed stage left to go on from. Without plans, of a run before 2026-12, nobody knows what is superseded."""
    plans = latest(root)
    needed = {stage.folder for plan in plans for stage in plan.stages}
    found = []
    for folder in sorted(path for path in (root / STAGES).glob("*") if path.is_dir()):
        if why := _superfluous(folder, needed if plans else None, partial):
            found.append(Garbage(folder, why, size(folder)))
    return found


def _superfluous(folder: Path, needed: set[str] | None, partial: bool) -> str:
    whole = folder.with_suffix("")
    match folder.suffix:
        case ".deleted":
            return "was being deleted"
        case ".partial" | ".fetching":
            if owner(folder):
                return ""
            if (whole / RECORD).is_file():
                return "unfinished, and finished since"
            if needed is not None and whole.name not in needed:
                return "unfinished, and superseded"
            return "unfinished: the next run would go on from it" if partial else ""
    return "superseded" if needed is not None and folder.name not in needed else ""


def remove(root: Path, found: list[Garbage]) -> None:
    """Delete these, each as a whole, whatever happens meanwhile. Raises :class:`rslwm.serialisation.ConfigError`: a run
    is at work there."""
    with locked(root / LOCK, LOCK_SECONDS):
        for each in found:
            if each.folder.suffix != DELETED:
                each.folder.rename(each.folder.with_name(f"{each.folder.name}{DELETED}"))
        for folder in (root / STAGES).glob(f"*{DELETED}"):
            shutil.rmtree(folder)

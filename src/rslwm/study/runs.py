"""The studies below a folder: what each is about, how far it is, and where its reports are."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rslwm.run.events import EVENTS
from rslwm.run.lock import holder
from rslwm.run.perform import PARTIAL
from rslwm.run.plan import PLANS, Planned, latest
from rslwm.run.stage import LOCK, RECORD, StageRecord
from rslwm.run.upkeep import STAGES, finished, owner, size
from rslwm.study.compare import comparisons
from rslwm.types import DataError

State = Literal["running", "finished", "failed", "partly"]
REPORT = "report/index.html"
RECORDED = "study.json"


@dataclass(frozen=True)
class StageState:
    """A stage of a study. Its state is finished, fetched, running, failed, partly (it was killed, and the next run goes
    on), waiting, superseded (no command wants it any more) or damaged (its record can't be read)."""

    planned: Planned
    state: str
    why: str = ""
    record: StageRecord | None = None
    bytes: int = 0

    @property
    def done(self) -> bool:
        return self.state in ("finished", "fetched")


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study, looked at once."""

    root: Path
    holder: str
    """The process that runs it; empty if none does."""
    stages: tuple[StageState, ...]
    record: dict[str, Any]
    """``study.json``; empty where there is none yet."""
    commands: tuple[str, ...]
    when: datetime

    @classmethod
    def read(cls, root: Path) -> StudyFolder:
        """Raises DataError: there is no study in this folder."""
        if not is_study(root):
            raise DataError(f"{root} holds no study; name what a command was given as --out, or a folder above several")
        records = [_json(at / RECORDED) for at in comparisons(root)]
        plans, last = latest(root), _last_events(root)
        planned = {stage.folder: stage for plan in plans for stage in plan.stages}
        there = _superseded(root, planned) if plans else _unplanned(root, last)
        states = [_look(root, stage, last.get(stage.key, {})) for stage in planned.values()]
        commands = [plan.command for plan in plans] or [record.get("command", "") for record in records]
        noted = [root / name for name in (EVENTS, PLANS, RECORDED)]
        when = max((path.stat().st_mtime for path in noted if path.is_file()), default=root.stat().st_mtime)
        return cls(
            root=root,
            holder=holder(root / LOCK),
            stages=(*states, *there),
            record=_together(records),
            commands=tuple(dict.fromkeys(filter(None, commands))),
            when=datetime.fromtimestamp(when, UTC),
        )

    @property
    def wanted(self) -> list[StageState]:
        return [stage for stage in self.stages if stage.state != "superseded"]

    @property
    def state(self) -> State:
        states = {stage.state for stage in self.wanted}
        if self.holder:
            return "running"
        if states & {"failed", "damaged"} or self.record.get("failed"):
            return "failed"
        return "finished" if states <= {"finished", "fetched"} else "partly"

    @property
    def preset(self) -> str:
        """The preset or file that its last comparison or training began with; empty if nobody knows."""
        for words in map(shlex.split, reversed(self.commands)):
            for verb in (["compare"], ["train"], ["latents", "train"], ["join"]):
                if words[1 : 1 + len(verb)] == verb and len(words) > 1 + len(verb):
                    return "joined" if verb == ["join"] else words[1 + len(verb)]
        return ""

    @property
    def spaces(self) -> list[str]:
        known = [space["name"] for space in self.record.get("spaces", [])]
        return known or [*dict.fromkeys(name for name, _ in self._labelled)]

    @property
    def seeds(self) -> list[int]:
        known = {seed for space in self.record.get("spaces", []) for seed in space["seeds"]}
        return sorted(known or {seed for _, seed in self._labelled})

    @property
    def _labelled(self) -> Iterator[tuple[str, int]]:
        for stage in self.wanted:
            if found := re.match(r"(\S+)(?: \S+)? seed (\d+)", stage.planned.label):
                yield found[1], int(found[2])

    @property
    def reports(self) -> list[Path]:
        return [at / REPORT for at in comparisons(self.root) if (at / REPORT).is_file()]

    @property
    def bytes(self) -> int:
        return size(self.root)


def is_study(root: Path) -> bool:
    return (root / STAGES).is_dir() or (root / RECORDED).is_file()


def studies(folder: Path) -> list[Path]:
    """The folders of all studies in a folder, or below it, sorted; hidden folders and links aren't entered."""
    found = []
    for place, below, _ in os.walk(folder):
        if is_study(Path(place)):
            found.append(Path(place))
            below.clear()
        below[:] = [name for name in below if not name.startswith(".")]
    return sorted(found)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _together(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Of a study of several sizes, the first one's record and what failed in any."""
    return {**records[0], "failed": [entry for record in records for entry in record.get("failed", [])]}


def _last_events(root: Path) -> dict[str, dict[str, Any]]:
    """The last event of each stage by its key; a line that a kill cut short is left out."""
    found = {}
    path = root / EVENTS
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            event = json.loads(line)
            found[event["key"]] = event
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _look(root: Path, planned: Planned, event: dict[str, Any]) -> StageState:
    folder = root / STAGES / planned.folder
    if (folder / RECORD).is_file():
        try:
            record = StageRecord.read(folder)
        except DataError as error:
            return StageState(planned, "damaged", str(error), bytes=size(folder))
        state = "fetched" if record.fetched else "finished"
        written = sum(known.bytes for known in record.files.values()) if record.files else size(folder)
        return StageState(planned, state, record=record, bytes=written)
    partial = folder.with_name(f"{folder.name}{PARTIAL}")
    there = size(partial) if partial.is_dir() else 0
    if partial.is_dir() and owner(partial):
        return StageState(planned, "running", _progress(event), bytes=there)
    if event.get("event") == "failed":
        return StageState(planned, "failed", str(event.get("why", "")), bytes=there)
    return StageState(planned, "partly" if partial.is_dir() else "waiting", bytes=there)


def _progress(event: dict[str, Any]) -> str:
    count = f"{event['done']}/{event['total']}" if event.get("total") else ""
    return "  ".join(filter(None, (count, str(event.get("message", "")))))


def _superseded(root: Path, planned: dict[str, Planned]) -> list[StageState]:
    found = []
    for folder in finished(root):
        if folder.name not in planned:
            kind, _, key = folder.name.rpartition("-")
            there = _look(root, Planned(kind, "", key), {})
            label = there.record.label if there.record else ""
            found.append(StageState(Planned(kind, label, key), "superseded", "", there.record, there.bytes))
    return found


def _unplanned(root: Path, last: dict[str, dict[str, Any]]) -> list[StageState]:
    """Of a run before 2026-12: what is there, and what events tell of."""
    known = {folder.name.rpartition("-")[2]: folder.name.rpartition("-")[0] for folder in finished(root)}
    labels = {key: str(event.get("label", "")) for key, event in last.items()}
    kinds = {key: str(event.get("kind", "")) for key, event in last.items()} | known
    found = [_look(root, Planned(kind, labels.get(key, ""), key), last.get(key, {})) for key, kind in kinds.items()]
    return [stage for stage in found if stage.state != "waiting"]

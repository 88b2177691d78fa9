"""``plans.jsonl`` in a run's folder: what each command wanted made there, so that one can tell what is lacking, and
what nobody needs any more."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rslwm.run.stage import Stage, closure
from rslwm.types import DataError

PLANS = "plans.jsonl"


@dataclass(frozen=True)
class Planned:
    """A stage of a plan; ``spared`` as in :class:`rslwm.run.stage.Stage`."""

    kind: str
    label: str
    key: str
    spared: bool = False

    @property
    def folder(self) -> str:
        """Its name."""
        return f"{self.kind}-{self.key}"


@dataclass(frozen=True)
class Plan:
    """The stages that a command wanted, and all that these need. It supersedes the command's earlier plans for stages
    of the same kinds: that of ``rslwm compare`` after a change replaces the one before, and not that of a rollout."""

    command: str
    time: str
    """UTC, ISO 8601."""
    targets: tuple[str, ...]
    """Kinds of the stages that were asked for."""
    stages: tuple[Planned, ...]

    @property
    def verb(self) -> str:
        return " ".join(shlex.split(self.command)[:2])

    @property
    def subject(self) -> tuple[str, tuple[str, ...]]:
        """What it supersedes earlier plans on."""
        return self.verb, self.targets


def command() -> str:
    """The line that started this process."""
    program = Path(sys.argv[0]).name
    return shlex.join(["rslwm" if program in ("rslwm", "__main__.py") else program, *sys.argv[1:]])


def note(root: Path, stages: Iterable[Stage[Any]]) -> None:
    """Add what this process wants, unless that was its last wish already; a kill can cut the last line short."""
    targets = list(stages)
    named = tuple(Planned(stage.kind, stage.label, stage.key, stage.spared) for stage in closure(targets))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    plan = Plan(command(), now, tuple(sorted({stage.kind for stage in targets})), named)
    before = next((old for old in latest(root) if old.subject == plan.subject), None)
    if before and (before.command, before.stages) == (plan.command, plan.stages):
        return
    with (root / PLANS).open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            file.write(b"" if file.read(1) == b"\n" else b"\n")
        file.write(f"{json.dumps(asdict(plan))}\n".encode())


def latest(root: Path) -> list[Plan]:
    """The plans that hold, oldest first; none in the folder of a run before 2026-12. Raises DataError: a line that no
    kill cut short is none."""
    found: dict[tuple[str, tuple[str, ...]], Plan] = {}
    lines = (root / PLANS).read_bytes().split(b"\n") if (root / PLANS).is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            plan = _parse(line)
        except (ValueError, KeyError, TypeError) as error:
            if line.endswith(b"}"):
                raise DataError(f"{root / PLANS}, line {number}: {error!r}. Delete the file, and run again.") from None
            continue
        found.pop(plan.subject, None)
        found[plan.subject] = plan
    return [*found.values()]


def _parse(line: bytes) -> Plan:
    values = json.loads(line)
    stages = tuple(Planned(**stage) for stage in values["stages"])
    plan = Plan(**{f.name: values[f.name] for f in fields(Plan)} | {"stages": stages})
    return Plan(plan.command, plan.time, tuple(plan.targets), stages)

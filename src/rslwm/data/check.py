"""Finds what would spoil a study before it starts: damage, contradictions, leaks, and data without information."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from rslwm.data.conventions import MOST, ActionsUntold, outside
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.fingerprint import changed, recorded
from rslwm.data.frames import BLACK
from rslwm.data.lerobot_info import SUCCESS
from rslwm.types import DataError, Progress, silent

MEND = "mend what it names, or remove the episode"
SHOWN = 6  # errors that require_sound lists


@dataclass(frozen=True)
class Finding:
    """An error makes results wrong or impossible; a warning is worth a look."""

    severity: Literal["error", "warning"]
    where: str
    what: str
    remedy: str
    draft: str = ""
    """YAML to correct and save; no table can hold it, so print it as it is."""


@dataclass(frozen=True)
class Report:
    """All findings on one data set, errors first; prints as a table with rich."""

    summary: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """No errors; there may be warnings."""
        return all(finding.severity != "error" for finding in self.findings)

    def __rich__(self) -> RenderableType:
        if not self.findings:
            return Text.assemble(("no findings", "green"), f" in {self.summary}")
        columns = (Column(name, overflow="fold") for name in ("", "where", "what", "remedy"))
        table = Table(*columns, title=Text(self.summary), show_lines=True)
        for f in self.findings:
            colour = "red" if f.severity == "error" else "yellow"
            table.add_row(Text(f.severity, colour), *map(Text, (f.where, f.what, f.remedy)))
        errors = sum(f.severity == "error" for f in self.findings)
        return Group(table, f"{errors} errors, {len(self.findings) - errors} warnings")


def check(dataset: EpisodeDataset, progress: Progress = silent) -> Report:
    """Read all of a data set, every byte and every frame, and report what is wrong with it."""
    found = [*_recorded(dataset), *_videos(dataset, progress)]
    for name in changed(dataset.root) if recorded(dataset.root) else []:
        what = "its bytes are not those that were there when its sums were noted"
        remedy = "copy the file again if nobody meant to change it"
        found.append(Finding("warning", str(dataset.root / name), what, remedy))
    findings = sorted(_joined(found), key=lambda finding: finding.severity)
    cameras = ", ".join(dataset.cameras) or "none"
    summary = f"{dataset.root}: {len(dataset)} episodes, {int(dataset.lengths.sum())} steps, cameras: {cameras}"
    return Report(summary, tuple(findings))


def require_sound(dataset: EpisodeDataset) -> None:
    """Refuse what :func:`check` calls an error in tables and values; pictures show theirs when they are read. Raises
    DataError: with the first few of them."""
    if errors := [f for f in _joined(_recorded(dataset)) if f.severity == "error"]:
        shown = "".join(f"\n- {f.where}: {f.what} ({f.remedy})" for f in errors[:SHOWN])
        rest = f"\n- and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        drafts = "".join(f"\n\n{f.draft}" for f in errors if f.draft)
        raise DataError(f"{dataset.root} has {len(errors)} errors, see `rslwm data check`:{shown}{rest}{drafts}")


def _recorded(dataset: EpisodeDataset) -> Iterator[Finding]:
    tables = [*_tables(dataset)]
    contradictory = any(finding.severity == "error" for finding in tables)
    yield from tables
    for finding in (*_values(dataset), *_labels(dataset)):
        if not (contradictory and finding.remedy == MEND):  # what can't be read for a reason that is named already
            yield finding


def _joined(findings: Iterable[Finding]) -> list[Finding]:
    """One finding where several places have the same."""
    places: dict[Finding, dict[str, None]] = defaultdict(dict)
    for f in findings:
        places[replace(f, where="")][f.where] = None
    more = {f: f" and {len(where) - 1} more" if len(where) > 1 else "" for f, where in places.items()}
    return [replace(f, where=f"{next(iter(where))}{more[f]}") for f, where in places.items()]


def _tables(dataset: EpisodeDataset) -> Iterator[Finding]:
    """Lengths, places and ids of the episodes against each other."""
    if not len(dataset):
        yield Finding("error", str(dataset.root), "no episode has any steps", "record some")
    try:
        for place, what in dataset.contradictions():
            yield Finding("error", place, what, "correct the metadata or the rows, or remove the episode")
        several = [name for name, texts in zip(dataset.ids, dataset.texts, strict=True) if len(texts) > 1]
    except DataError as error:
        yield Finding("error", str(dataset.root), str(error), MEND)
        return
    if several:
        what = f"several in {len(several)} of {len(dataset)} episodes, the first {several[0]!r}"
        yield Finding("warning", "instructions", what, "the one of the first step is used; split episodes to keep all")


def _values(dataset: EpisodeDataset) -> Iterator[Finding]:
    """Actions and states: readable, finite, of the declared dimensions, inside the bounds, not constant."""
    actions: list[np.ndarray] = []
    contents: dict[str, list[str]] = defaultdict(list)
    for i, name in enumerate(dataset.ids):
        where = f"episode {name!r}"
        try:
            vectors = {"action": dataset.actions(i)} | {f"state {k}": v for k, v in dataset.states(i).items()}
        except DataError as error:
            yield Finding("error", where, str(error), MEND)
            continue
        for key, values in vectors.items():
            if steps := np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
                what = f"{key} is NaN or infinite at {len(steps)} steps, the first {steps[0]}"
                yield Finding("error", where, what, "remove the episode or cut these steps off")
        actions.append(vectors["action"])
        contents[hashlib.sha256(b"".join(v.tobytes() for v in vectors.values())).hexdigest()].append(name)
    for names in contents.values():
        if len(names) > 1:
            what = f"same actions and states: {', '.join(map(repr, names[:5]))}"
            yield Finding("error", f"{len(names)} episodes", what, "keep one: copies leak across the split")
    if actions:
        yield from _dimensions(dataset, np.concatenate(actions))


def _dimensions(dataset: EpisodeDataset, actions: np.ndarray) -> Iterator[Finding]:
    where = str(dataset.info_file)
    try:
        spec = dataset.spec
    except ActionsUntold as error:
        yield Finding("error", where, error.question, "save the spec that `rslwm data check` prints", error.draft)
        return
    except DataError as error:
        yield Finding("error", where, str(error), "add or correct rslwm.action_spec")
        return
    if actions.shape[1] != spec.dims:
        what = f"the action spec names {spec.dims} dimensions, recorded are {actions.shape[1]}"
        yield Finding("error", where, what, "correct rslwm.action_spec")
        return
    finite = actions[np.isfinite(actions).all(axis=1)]
    beyond = outside(spec, finite)
    for name, low, high, values, excess in zip(spec.names, spec.low, spec.high, finite.T, beyond.T, strict=True):
        where = f"action {name!r}"
        if len(values) and np.ptp(values) == 0:
            yield Finding("warning", where, f"always {values[0]:g}", "leave the dimension out if it never moves")
        if excess.any():
            farthest = values[np.maximum(low - values, values - high).argmax()]
            what = f"{excess.sum()} of {len(values)} steps outside [{low:g}, {high:g}], the farthest {farthest:g}"
            if excess.mean() > MOST:
                what += ": most are, so these actions are something else than the action spec says"
                yield Finding("error", where, what, "correct kinds, mode and units in the action spec")
            else:
                yield Finding("warning", where, what, "widen the bounds in the action spec")


def _labels(dataset: EpisodeDataset) -> Iterator[Finding]:
    try:
        texts = dataset.instructions
        unlabelled = sum(label is None for label in dataset.success)
    except DataError as error:
        yield Finding("error", "success labels", str(error), MEND)
        return
    if empty := [name for name, text in zip(dataset.ids, texts, strict=True) if not text.strip()]:
        what = f"{len(empty)} of {len(dataset)} have no instruction, the first {empty[0]!r}"
        yield Finding("warning", "instructions", what, "metrics and encoders that read language leave them out")
    if unlabelled and SUCCESS in dataset.features:
        what = f"{unlabelled} of {len(dataset)} episodes are unlabelled"
        yield Finding("warning", "success labels", what, "add next.success; success metrics use labelled episodes only")


def _videos(dataset: EpisodeDataset, progress: Progress) -> Iterator[Finding]:
    """Every frame of every camera decodes, is of the declared size, and shows something."""
    black: dict[str, list[str]] = defaultdict(list)
    for i, name in enumerate(dataset.ids):
        for camera in dataset.cameras:
            where = f"episode {name!r}, camera {camera!r}"
            try:
                frames = dataset.frames(i, camera)
            except DataError as error:
                yield Finding("error", where, str(error), MEND)
                continue
            if frames.max() < BLACK:
                black[camera].append(name)
        progress(i + 1, len(dataset), "episodes")
    for camera, names in black.items():
        what = f"black in {len(names)} of {len(dataset)} episodes, the first {names[0]!r}"
        yield Finding("warning", f"camera {camera!r}", what, "learn from another camera (data.camera), or drop them")
    if not dataset.cameras:
        seen = (text for text in dataset.left_out if re.search("camera|depth|image|picture|video", text))
        what = f"there is no colour camera{''.join(f'; {text}' for text in seen)}"
        yield Finding("error", str(dataset.info_file), what, "record at least one, or name it with --data.features")

"""Finds what would spoil a study before it starts: damage, contradictions, leaks, and data without information."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from rslwm.data.conventions import ActionsUntold
from rslwm.data.dataset import EpisodeDataset, Progress
from rslwm.data.fingerprint import changed
from rslwm.data.frames import BLACK
from rslwm.types import DataError


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
            return f"[green]no findings[/] in {escape(self.summary)}"
        table = Table("", "where", "what", "remedy", title=escape(self.summary), show_lines=True)
        for f in self.findings:
            colour = "red" if f.severity == "error" else "yellow"
            table.add_row(f"[{colour}]{f.severity}[/]", *map(escape, (f.where, f.what, f.remedy)))
        errors = sum(f.severity == "error" for f in self.findings)
        return Group(table, f"{errors} errors, {len(self.findings) - errors} warnings")


def check(dataset: EpisodeDataset, progress: Progress | None = None) -> Report:
    """Read all of a data set, every byte and every frame, and report what is wrong with it."""
    findings = [*_files(dataset), *_tables(dataset), *_values(dataset), *_labels(dataset), *_videos(dataset, progress)]
    findings.sort(key=lambda finding: finding.severity)
    cameras = ", ".join(dataset.cameras) or "none"
    summary = f"{dataset.root}: {len(dataset)} episodes, {int(dataset.lengths.sum())} steps, cameras: {cameras}"
    return Report(summary, tuple(findings))


def _files(dataset: EpisodeDataset) -> Iterator[Finding]:
    for name in changed(dataset.root):
        yield Finding(
            "warning" if name.endswith(".json") else "error",
            str(dataset.root / name),
            "its bytes are not those that were written",
            "copy the file again; if the change was meant, delete meta/fingerprint.json",
        )


def _tables(dataset: EpisodeDataset) -> Iterator[Finding]:
    """Lengths, places and ids of the episodes against each other."""
    try:
        for place, what in dataset.contradictions():
            yield Finding("error", place, what, "write the data set again, or correct its metadata")
    except DataError as error:
        yield Finding("error", str(dataset.root / "data"), str(error), "copy or record the file again")
    for name, count in Counter(dataset.ids).items():
        if count > 1:
            yield Finding("error", f"episode {name!r}", f"{count} episodes have this id", "give each its own rslwm/id")


def _values(dataset: EpisodeDataset) -> Iterator[Finding]:
    """Actions and states: readable, finite, of the declared dimensions, inside the bounds, not constant."""
    actions: list[np.ndarray] = []
    contents: dict[str, list[str]] = defaultdict(list)
    for i, name in enumerate(dataset.ids):
        try:
            vectors = {"action": dataset.actions(i)} | {f"state {k}": v for k, v in dataset.states(i).items()}
        except DataError as error:
            yield Finding("error", f"episode {name!r}", str(error), "write the episode again or remove it")
            continue
        for key, values in vectors.items():
            if steps := np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
                what = f"{key} is NaN or infinite at {len(steps)} steps, the first {steps[0]}"
                yield Finding("error", f"episode {name!r}", what, "remove the episode or cut these steps off")
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
    for d, (name, low, high) in enumerate(zip(spec.names, spec.low, spec.high, strict=True)):
        values = finite[:, d]
        outside = np.maximum(low - values, values - high)
        if len(values) and np.ptp(values) == 0:
            what = f"always {values[0]:g}"
            yield Finding("warning", f"action {name!r}", what, "leave the dimension out if it never moves")
        if (excess := outside > 1e-5 * (high - low)).any():
            farthest = values[outside.argmax()]
            what = f"{excess.sum()} of {len(values)} steps outside [{low:g}, {high:g}], the farthest {farthest:g}"
            yield Finding("warning", f"action {name!r}", what, "widen the bounds in rslwm.action_spec")


def _labels(dataset: EpisodeDataset) -> Iterator[Finding]:
    if empty := [name for name, text in zip(dataset.ids, dataset.instructions, strict=True) if not text.strip()]:
        what = f"{len(empty)} of {len(dataset)} have no instruction, the first {empty[0]!r}"
        yield Finding("warning", "instructions", what, "metrics and encoders that read language leave them out")
    try:
        unlabelled = sum(label is None for label in dataset.success)
    except DataError as error:
        yield Finding("error", "success labels", str(error), "write the data set again")
        return
    if unlabelled:
        what = f"{unlabelled} of {len(dataset)} episodes are unlabelled"
        yield Finding("warning", "success labels", what, "add next.success; success metrics use labelled episodes only")


def _videos(dataset: EpisodeDataset, progress: Progress | None) -> Iterator[Finding]:
    """Every frame of every camera decodes, is of the declared size, and shows something."""
    black: dict[str, list[str]] = defaultdict(list)
    for i, name in enumerate(dataset.ids):
        for camera in dataset.cameras:
            where = f"episode {name!r}, camera {camera!r}"
            try:
                frames = dataset.frames(i, camera)
            except DataError as error:
                yield Finding("error", where, str(error), "copy or record the file again")
                continue
            if frames.shape[1:3] != (size := dataset.image_size(camera)):
                what = f"frames are {frames.shape[1:3]}, {dataset.info_file.name} says {size}"
                yield Finding("error", where, what, "correct the feature's shape")
            if frames.max() < BLACK:
                black[camera].append(name)
        if progress:
            progress(i + 1)
    for camera, names in black.items():
        what = f"black in {len(names)} of {len(dataset)} episodes, the first {names[0]!r}"
        yield Finding("warning", f"camera {camera!r}", what, "learn from another camera (data.camera), or drop them")
    if not dataset.cameras:
        yield Finding("error", str(dataset.info_file), "there is no video", "record at least one camera")

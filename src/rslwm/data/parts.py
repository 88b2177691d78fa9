"""An action that is recorded in parts, and the question of what its numbers mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from rslwm.data.conventions import TO_CORRECT, ActionsUntold, derive_spec, draft
from rslwm.data.naming import Told
from rslwm.types import ActionSpec, DataError

_HAND = ("delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper")
_RATE = 10.0

PartKind = Literal["translation", "rotation", "joint", "gripper", "other", "termination", "unknown"]
_ORDER: tuple[PartKind, ...] = ("translation", "rotation", "joint", "gripper", "other", "termination")
_PATTERNS: dict[PartKind, str] = {  # the first one that is found in the name
    "termination": r"terminat|^is_(last|terminal|first)|^done|^stop",
    "other": r"^base|mobile|torso|head",
    "gripper": r"gripper|grasp",
    "joint": r"joint|qpos|motor",
    "rotation": r"rot|orient|axis_?angle|euler|rpy|quat",
    "translation": r"world_vector|transl|xyz|pos(ition)?($|_)",
}


@dataclass(frozen=True)
class Part:
    """Consecutive dimensions of the action that come from one feature."""

    key: str
    kind: PartKind
    names: tuple[str, ...]


def plain_part(name: str, size: int) -> Part:
    """An action that is one array: nothing but, perhaps, its name says what its dimensions are."""
    part = _part(name, size)
    return replace(part, kind="unknown") if part.kind == "other" else part


def dictionary_parts(sizes: Mapping[str, int]) -> list[Part]:
    """The parts of a dictionary in the order in which they are put together.

    Translations come first, then rotations, joints, grippers, whatever else there is and, last and only there to be
    named, what ends an episode; several of a kind in the order of their keys. So ``world_vector``, ``rotation_delta``
    and ``gripper_closedness_action`` become the usual seven dimensions.
    """
    return sorted((_part(*item) for item in sorted(sizes.items())), key=lambda part: _ORDER.index(part.kind))


def _part(key: str, size: int) -> Part:
    kind, stem = _kind(key, size), key.replace("/", "_")
    axes = "xyz" if size == 3 and kind in ("translation", "rotation") else range(size)  # nobody knows where w stands
    return Part(key, kind, tuple(f"{stem}_{axis}" for axis in axes) if size != 1 else (stem,))


def _kind(key: str, size: int) -> PartKind:
    name = key.rpartition("/")[2].lower()
    for kind, pattern in _PATTERNS.items():
        if re.search(pattern, name):
            whole = {"translation": (1, 2, 3), "rotation": (1, 3, 4, 6, 9)}.get(kind, (size,))
            return kind if size in whole else "other"
    return "other"


def columns(parts: Sequence[Part], spec: ActionSpec, where: str) -> list[int]:
    """Which of the dimensions of all parts, side by side, the spec's are: by name, otherwise by position. Raises
    DataError: the spec has neither their names nor as many dimensions, or has something of another kind there."""
    names = [name for part in parts for name in part.names]
    kinds = [part.kind for part in parts for _ in part.names]
    if {*spec.names} <= {*names}:
        return [names.index(name) for name in spec.names]
    moving = [i for i, kind in enumerate(kinds) if kind != "termination"]
    known = [i for i in moving if kinds[i] != "other"]
    chosen = next((places for places in (moving, known) if len(places) == spec.dims), None)
    rename = "Give the spec's dimensions these names to select and order them"
    if chosen is None:
        has = (
            f"has {spec.dims} dimensions ({', '.join(spec.names)}), the actions have {len(moving)}: {', '.join(names)}"
        )
        raise DataError(f"{where}: the action spec {has}. {rename}.")
    for name, wanted, i in zip(spec.names, spec.kinds, chosen, strict=True):
        if kinds[i] != wanted and {kinds[i], wanted} <= {"translation", "rotation", "gripper"}:
            stands = f"{name!r} is a {wanted}, but {names[i]!r} stands there"
            actions = ", ".join(names[j] for j in chosen)
            raise DataError(f"{where}: the action spec's {stands}. The actions are {actions}. {rename}.")
    return chosen


def untold(parts: Sequence[Part], actions: np.ndarray, where: str, sidecar: Path, hz: float = 0.0) -> ActionsUntold:
    """The question what recorded actions (N, A), every dimension of the parts, mean.

    The draft to correct is as right as the names of the parts are. An array has none; seven small dimensions are
    drafted as what they mostly are, deltas of a hand, all of it marked. So is the rate where nothing gives one.
    """
    dimensions = [(name, part.kind) for part in parts for name in part.names]
    kept = [i for i, (_, kind) in enumerate(dimensions) if kind != "termination"]
    names = [dimensions[i][0] for i in kept]
    values = actions[np.isfinite(actions).all(axis=1)][:, kept]
    values = values if len(values) else np.zeros((1, len(kept)))
    small = len(kept) == len(_HAND) and np.abs(values[:, :6]).max() < 0.5 and np.abs(values[:, 6]).max() <= 1
    if small and {part.kind for part in parts} == {"unknown"}:
        text = draft(derive_spec(_HAND, values, hz or _RATE, where), [Told(None, None)] * len(_HAND))
    else:
        try:
            derived = derive_spec(names, values, hz or _RATE, where)
            text = draft(derived, [*map(Told, derived.kinds, derived.modes)])
        except ActionsUntold as error:
            text = error.draft
    rate = "" if hz else "  # CORRECT, nothing gives the rate: recorded actions a second\n"
    question = f"{where}. {TO_CORRECT} as {sidecar}, or as any file for --data.action-spec FILE."
    return ActionsUntold(question, re.sub(r"^  hz:", f"{rate}  hz:", text, flags=re.MULTILINE))

"""An action that is recorded in parts, and the question of what its numbers mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from rslwm.data.conventions import stored_spec
from rslwm.types import GRIPPERS, ActionKind, ActionSpec, DataError, end_effector_spec

SIDECARS = ("rslwm.yaml", "rslwm.yml", "rslwm.json")

PartKind = Literal["translation", "rotation", "gripper", "other", "termination", "unknown"]
_ORDER: tuple[PartKind, ...] = ("translation", "rotation", "gripper", "other", "termination")
_PATTERNS: dict[PartKind, str] = {  # the first one that is found in the name
    "termination": r"terminat|^is_(last|terminal|first)|^done|^stop",
    "other": r"^base|mobile|torso|head",
    "gripper": r"gripper|grasp",
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
    kind = _kind(name, size)
    return Part(name, "unknown" if kind == "other" else kind, _names(name, size, kind))


def dictionary_parts(sizes: Mapping[str, int]) -> list[Part]:
    """The parts of a dictionary in the order in which they are put together.

    Translations come first, then rotations, the gripper, whatever else there is and, last and only there to be named,
    what ends an episode; several of a kind in the order of their keys. So ``world_vector``, ``rotation_delta`` and
    ``gripper_closedness_action`` become the usual seven dimensions.
    """
    parts = [Part(key, _kind(key, size), _names(key, size, _kind(key, size))) for key, size in sorted(sizes.items())]
    return sorted(parts, key=lambda part: _ORDER.index(part.kind))


def _kind(key: str, size: int) -> PartKind:
    name = key.rpartition("/")[2].lower()
    for kind, pattern in _PATTERNS.items():
        if re.search(pattern, name):
            whole = {"translation": (1, 2, 3), "rotation": (1, 3, 4, 6, 9)}.get(kind, (size,))
            return kind if size in whole else "other"
    return "other"


def _names(key: str, size: int, kind: PartKind) -> tuple[str, ...]:
    stem = key.replace("/", "_")
    axes = "xyzw" if size <= 4 and kind in ("translation", "rotation") else ""
    if size == 1:
        return (stem,)
    return tuple(f"{stem}_{axes[i] if axes else i}" for i in range(size))


def columns(parts: Sequence[Part], spec: ActionSpec, where: str) -> list[int]:
    """Which of the dimensions of all parts, side by side, the spec's are: by name, otherwise by position.

    Raises:
        DataError: the spec has neither their names nor as many dimensions, or has something of another kind there.
    """
    names = [name for part in parts for name in part.names]
    kinds = [part.kind for part in parts for _ in part.names]
    if set(spec.names) <= set(names):
        return [names.index(name) for name in spec.names]
    moving = [i for i, kind in enumerate(kinds) if kind != "termination"]
    known = [i for i in moving if kinds[i] != "other"]
    chosen = next((places for places in (moving, known) if len(places) == spec.dims), None)
    if chosen is None:
        raise DataError(
            f"{where}: the action spec has {spec.dims} dimensions ({', '.join(spec.names)}), the actions have "
            f"{len(moving)}: {', '.join(names)}. Give the spec's dimensions these names to select and order them."
        )
    for name, wanted, i in zip(spec.names, spec.kinds, chosen, strict=True):
        comparable = {"translation", "rotation", "gripper"}
        if kinds[i] in comparable and wanted in comparable and kinds[i] != wanted:
            raise DataError(
                f"{where}: the action spec's {name!r} is a {wanted}, but {names[i]!r} stands there. The actions are "
                f"{', '.join(names[j] for j in chosen)}; give the spec's dimensions these names or this order."
            )
    return chosen


def read_spec(path: Path) -> ActionSpec:
    """The action spec of a YAML or JSON file, by itself or under ``action_spec``.

    Raises:
        DataError: the file is absent, of another form, or the spec isn't valid.
    """
    try:
        text = path.read_text("utf-8")
        # YAML 1.1 takes 1e-05 for a string, and JSON writes small numbers so.
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} can't be read as an action spec: {error}") from None
    values = content.get("action_spec", content) if isinstance(content, dict) else content
    return stored_spec(values, str(path))


def given_spec(folder: Path, named: str) -> ActionSpec | None:
    """The spec of the file that ``--data.action-spec`` names, or else of one of :data:`SIDECARS` in the folder."""
    if named:
        return read_spec(Path(named).expanduser())
    beside = next((folder / name for name in SIDECARS if (folder / name).is_file()), None)
    return read_spec(beside) if beside else None


def question(parts: Sequence[Part], actions: np.ndarray, sidecar: Path, hz: float = 0.0) -> str:
    """What to write down to say what recorded actions (N, A) mean, as YAML that can be pasted and corrected."""
    kinds = [part.kind for part in parts for _ in part.names]
    draft = _draft(parts, actions, [i for i, kind in enumerate(kinds) if kind != "termination"], hz)
    text = yaml.safe_dump({"action_spec": draft.to_dict()}, sort_keys=False, default_flow_style=None, width=10_000)
    remarks = {"hz": "" if hz else "the data have no rate: write that of your robot"}
    remarks |= {"gripper": f"or: {GRIPPERS[1 - GRIPPERS.index(draft.gripper)]}" if draft.gripper in GRIPPERS else ""}
    remarks |= {"mode": "absolute: a pose or joint angles" if draft.mode == "delta" else "delta: what is added"}
    lines = [_remarked(line, remarks) for line in text.splitlines()]
    return (
        f"Save the lines below as {sidecar}, or in a file that --data.action-spec names, and correct what isn't so: "
        "kinds (translation, rotation, gripper, other), mode (delta or absolute), units, bounds, gripper, hz.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _remarked(line: str, remarks: Mapping[str, str]) -> str:
    remark = remarks.get(line.strip().partition(":")[0])
    return f"{line}  # {remark}" if remark else line


def _draft(parts: Sequence[Part], actions: np.ndarray, used: Sequence[int], hz: float) -> ActionSpec:
    names = [name for part in parts for name in part.names]
    kinds = [part.kind for part in parts for _ in part.names]
    finite = actions[np.isfinite(actions).all(axis=1)].astype(float)
    values = finite[:, used] if len(finite) else np.zeros((1, len(used)))
    names = [names[i] for i in used]
    drafted: list[ActionKind] = [_drafted(kinds[i]) for i in used]
    small = values.shape[1] == 7 and np.abs(values[:, :6]).max() < 0.5 and np.abs(values[:, 6]).max() <= 1
    if small and {kinds[i] for i in used} == {"unknown"}:  # looks like the most frequent convention there is
        names = ["delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper"]
        drafted = [*end_effector_spec(1, 1).kinds]
    delta = bool({"translation", "rotation"} & {*drafted})
    low, high = values.min(axis=0), values.max(axis=0)
    for kind in ("translation", "rotation"):
        members = [i for i, k in enumerate(drafted) if k == kind]
        if members:
            reach = np.abs(values[:, members]).max()
            low[members], high[members] = -reach, reach
    for d in (d for d, kind in enumerate(drafted) if kind == "gripper" and max(abs(low[d]), high[d]) <= 1):
        low[d], high[d] = (0.0 if low[d] >= 0 else -1.0), 1.0
    constant = ~(low < high)
    low[constant], high[constant] = low[constant] - 1, high[constant] + 1
    units = {"translation": "m", "rotation": "rad", "gripper": "1", "other": "as recorded"}
    return ActionSpec(
        names=tuple(names),
        kinds=tuple(drafted),
        units=tuple(units[kind] for kind in drafted),
        low=tuple(float(f"{v:.4g}") for v in low),
        high=tuple(float(f"{v:.4g}") for v in high),
        frame="base" if delta else "joint",
        mode="delta" if delta else "absolute",
        gripper=_gripper(names) if "gripper" in drafted else "none",
        hz=hz or 10.0,
    )


def _drafted(kind: PartKind) -> ActionKind:
    return kind if kind in ("translation", "rotation", "gripper") else "other"


def _gripper(names: Sequence[str]) -> str:
    closed = any("clos" in name for name in names)
    return GRIPPERS[closed]


def misfits(spec: ActionSpec, actions: np.ndarray) -> list[str]:
    """Dimensions of which most values lie outside the bounds, (N, A) actions: there the convention is another one."""
    low, high = np.asarray(spec.low), np.asarray(spec.high)
    slack = 1e-4 * (high - low)
    outside = ((actions < low - slack) | (actions > high + slack)).mean(axis=0)
    return [
        f"{share:.0%} of {name!r} ({actions[:, d].min():.4g} to {actions[:, d].max():.4g}) outside "
        f"{low[d]:g} to {high[d]:g}"
        for d, (name, share) in enumerate(zip(spec.names, outside, strict=True))
        if share > 0.5
    ]

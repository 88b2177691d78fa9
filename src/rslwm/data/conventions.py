"""The action convention of data that doesn't carry one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml

from rslwm.types import ActionKind, ActionMode, ActionSpec, DataError

_FIELDS = [field.name for field in fields(ActionSpec)]
_MODES = get_args(ActionMode)
_LISTS = ("names", "kinds", "units", "low", "high")
_TYPES: tuple[tuple[str, Any, str], ...] = (
    *((name, str, "a text") for name in ("names", "kinds", "units", "mode", "frame", "gripper")),
    *((name, int | float, "a number") for name in ("low", "high", "hz")),
)
_KINDS: dict[ActionKind, str] = {
    "translation": r"(delta_?|d|ee_|eef_|pos_?)*[xyz]",
    "rotation": r"(delta_?|d|ee_|eef_|rot_?)*(roll|pitch|yaw|r[xyz])",
    "gripper": r".*(gripper|grasp).*",
}


def kind_of(name: str) -> ActionKind:
    """What an action dimension of this name is: ``x``, ``delta_yaw``, ``gripper``; anything else is ``other``."""
    bare = re.sub(r"[\s.]+", "_", name.strip().lower())
    return next((kind for kind, pattern in _KINDS.items() if re.fullmatch(pattern, bare)), "other")


def read_spec(path: Path) -> ActionSpec:
    """The :class:`ActionSpec` that a YAML or JSON file holds: its fields, at the top or under ``action_spec``.

    Raises:
        DataError: there is no such file, it can't be read, or a field is unknown, missing or of no known value.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; it should hold an action_spec, see docs/actions.md") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} can't be read as {'JSON' if path.suffix == '.json' else 'YAML'}: {error}") from None
    for key in ("rslwm", "action_spec"):
        if isinstance(values, dict) and key in values:
            values = values[key]
    return stored_spec(values, str(path))


def stored_spec(values: Any, where: str) -> ActionSpec:
    """The :class:`ActionSpec` that a file holds as JSON.

    Raises:
        DataError: a field is unknown, missing or of no known value.
    """
    invalid = f"{where}: action_spec is not valid: "
    known = f"Its fields: {', '.join(_FIELDS)}"
    if not isinstance(values, dict):
        raise DataError(f"{invalid}{'nothing' if values is None else repr(values)} in place of a mapping. {known}")
    for name, types, expected in _TYPES:
        value = values.get(name, [])
        if name in _LISTS and not isinstance(value, list | tuple):
            raise DataError(f"{where}: action_spec.{name} is {value!r}, not a list with one entry a dimension")
        for i, entry in enumerate(value if isinstance(value, list | tuple) else [value]):
            if not isinstance(entry, types) or isinstance(entry, bool):
                hint = "; YAML reads 1e-3 as text, write 1.0e-3" if isinstance(entry, str) else ""
                raise DataError(f"{where}: action_spec.{name}[{i}] is {entry!r}, not {expected}{hint}")
    try:
        spec = ActionSpec.from_dict(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{invalid}{error}. {known}") from None
    for name, found, allowed in (("kinds", spec.kinds, get_args(ActionKind)), ("mode", spec.modes, _MODES)):
        if wrong := {*found} - {*allowed}:
            raise DataError(f"{where}: action_spec.{name} has {min(wrong)!r}; known: {', '.join(allowed)}")
    return spec


def derive_spec(names: Sequence[str], actions: np.ndarray, fps: float, where: str) -> ActionSpec:
    """An :class:`ActionSpec` from the names of the dimensions and the recorded actions (N, A).

    Dimensions with another than a Cartesian name are joint targets: absolute, bounded by the recorded range. Cartesian
    ones are deltas if their names begin with ``delta`` (or ``d``), bounded by the largest recorded magnitude of their
    kind, so that no motion is 0 after normalisation. Cartesian names alone don't tell a delta from a pose, and numbers
    tell nothing; a wrong guess would silently ruin every frame-skipped action.

    Raises:
        DataError: the names don't tell what the actions are; the message holds the key to add. Or no step is finite.
    """
    actions = actions[np.isfinite(actions).all(axis=1)]
    if not len(actions):
        raise DataError(f"{where}: no recorded action is finite, so there is nothing to take their bounds from")
    kinds = tuple(kind_of(name) for name in names)
    cartesian = [name for name, kind in zip(names, kinds, strict=True) if kind in ("translation", "rotation")]
    deltas = [bool(re.match(r"d(elta)?_?[a-z]", name.strip().lower())) for name in cartesian]
    spec = _spec(names, kinds, actions, fps, delta=bool(cartesian))
    if not all(deltas) or any(re.fullmatch(r"((action|motor|dim|a)[_ ]?)?\d+", name.strip().lower()) for name in names):
        suggestion = json.dumps({"rslwm": {"action_spec": spec.to_dict()}})
        raise DataError(
            f"{where}: the names of the action dimensions, {list(names)}, don't say what they are, deltas or a pose. "
            f"Add the key 'rslwm' with an action_spec to this file, for instance (correct what isn't so): {suggestion}"
        )
    return spec


def _spec(
    names: Sequence[str], kinds: tuple[ActionKind, ...], actions: np.ndarray, fps: float, delta: bool
) -> ActionSpec:
    low, high = actions.min(axis=0).astype(float), actions.max(axis=0).astype(float)
    for kind in ("translation", "rotation"):
        members = [i for i, k in enumerate(kinds) if k == kind]
        if delta and members:
            reach = max(abs(low[members]).max(), abs(high[members]).max())
            low[members], high[members] = -reach, reach
    constant = ~(low < high)
    low[constant], high[constant] = low[constant] - 1, high[constant] + 1
    units = {"translation": "m", "rotation": "rad", "gripper": "1", "other": "as recorded"}
    return ActionSpec(
        names=tuple(names),
        kinds=kinds,
        units=tuple(units[kind] for kind in kinds),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        frame="base" if delta else "joint",
        mode="delta" if delta else "absolute",
        gripper="as recorded" if "gripper" in kinds else "none",
        hz=fps,
    )

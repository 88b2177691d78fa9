"""The action convention of data that doesn't carry one: read from a file, derived from names, or asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml

from rslwm.data.naming import Told, read_names
from rslwm.files import read_json
from rslwm.serialisation import ConfigError, from_dict, read_yaml
from rslwm.types import GRIPPERS, ActionKind, ActionMode, ActionSpec, DataError

SIDECARS = ("rslwm.yaml", "rslwm.yml", "rslwm.json")
"""Files in which a folder may say what its actions mean."""

_LISTS = ("names", "kinds", "mode", "units", "low", "high")
_PLURALS: dict[ActionMode, str] = {"delta": "deltas", "absolute": "absolute values", "velocity": "velocities"}
_FAR = 0.5  # no arm goes as far in one step, in metres: such deltas are normalised, or of another unit


TO_CORRECT = "A wrong guess would ruin composed actions silently. Correct the lines marked CORRECT below, and save them"


class ActionsUntold(DataError):
    """The names don't tell what the actions are. ``question`` says which, ``draft`` is the YAML to correct and save."""

    def __init__(self, question: str, draft: str) -> None:
        super().__init__(f"{question}\n\n{draft}")
        self.question, self.draft = question, draft

    def __reduce__(self) -> tuple[type[ActionsUntold], tuple[str, str]]:
        return type(self), (self.question, self.draft)  # an error travels from worker to parent


def read_spec(path: Path) -> ActionSpec:
    """The :class:`ActionSpec` that a YAML or JSON file holds: its fields, at the top or under ``action_spec``. Raises
    DataError: there is no such file, it can't be read, or a field is unknown, missing or of no known value."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; it should hold an action_spec, see docs/actions.md")
    kind, read = ("JSON", read_json) if path.suffix == ".json" else ("YAML", read_yaml)
    try:
        values = read(path)
    except (OSError, ConfigError, DataError) as error:
        raise DataError(f"{path} can't be read as {kind}: {error}") from None
    for key in ("rslwm", "action_spec"):
        if isinstance(values, dict) and key in values:
            values = values[key]
    return stored_spec(values, str(path))


def given_spec(folder: Path, named: str = "") -> ActionSpec | None:
    """The spec of the file that ``data.action_spec`` names, or else of one of :data:`SIDECARS` in the folder."""
    if named:
        return read_spec(Path(named).expanduser())
    beside = next((folder / name for name in SIDECARS if (folder / name).is_file()), None)
    return read_spec(beside) if beside else None


def stored_spec(values: Any, where: str) -> ActionSpec:
    """The :class:`ActionSpec` that a file holds as JSON. Raises DataError: a field is unknown, missing or of no known
    value."""
    where = f"{where}: action_spec"
    if not isinstance(values, dict):
        found = "nothing" if values is None else repr(values)
        raise DataError(f"{where} is not valid: {found} in place of a mapping, see docs/actions.md")
    try:
        from_dict(ActionSpec, values, where)  # for what it refuses: it would write 1 as 1.0
        spec = ActionSpec.from_dict(values)
    except ConfigError as error:
        raise DataError(str(error)) from None
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is not valid: {error}") from None
    if not 0 < spec.hz < math.inf:
        raise DataError(f"{where}.hz is {spec.hz}; expected how many actions were recorded a second")
    return spec


def require_order(spec: ActionSpec, names: Sequence[str], where: str) -> None:
    """Raises :class:`DataError` if the spec has the data's names in another order: values aren't moved to follow it."""
    if sorted(spec.names) == sorted(names) and [*spec.names] != [*names]:
        found = f"action_spec.names are {', '.join(spec.names)}; the data have the same in another order"
        raise DataError(f"{where}: {found}: {', '.join(names)}. Put every list of the spec into the order of the data.")


def derive_spec(names: Sequence[str], actions: np.ndarray, fps: float, where: str) -> ActionSpec:
    """An :class:`ActionSpec` from the names of the dimensions and the recorded actions (N, A).

    Names tell kinds and modes, see :mod:`rslwm.data.naming`; numbers tell nothing but bounds. Those of deltas and
    velocities are the largest recorded magnitude (one for all dimensions of a translation or rotation), so that no
    motion is 0 after normalisation; those of absolute dimensions are the recorded range. Deltas of a hand are in metres
    and radians unless they are too large for it.

    Raises:
        ActionsUntold: some name doesn't tell; a wrong guess would silently ruin every frame-skipped action.
        DataError: no step is finite.
    """
    finite = actions[np.isfinite(actions).all(axis=1)]
    if not len(finite):
        what = "no recorded action is finite" if len(actions) else "no action is recorded"
        raise DataError(f"{where}: {what}, so there is nothing to take their bounds from")
    told = read_names(names)
    spec = _spec(names, [_guess(each) for each in told], finite, fps)
    if not any(None in each for each in told):
        return spec
    raise ActionsUntold(_question(names, told, where), draft(spec, told))


MOST = 0.5  # of a dimension's steps outside its bounds: above this share the convention is wrong, not a value


def outside(spec: ActionSpec, actions: np.ndarray) -> np.ndarray:
    """Which of the finite values (N, A) lie outside their bounds by more than rounding, (N, A) bool."""
    low, high = np.array(spec.low), np.array(spec.high)
    return np.maximum(low - actions, actions - high) > 1e-5 * (high - low)


def check_bounds(spec: ActionSpec, actions: np.ndarray, where: str) -> str | None:
    """Why the recorded actions (N, A) can't be what the spec says, or None.

    Values outside the bounds are possible; that most are means that units, kinds or modes are others.
    """
    if actions.shape[1] != spec.dims:
        return f"{where}: the action spec names {spec.dims} dimensions, recorded are {actions.shape[1]}"
    finite = actions[np.isfinite(actions).all(axis=1)]
    shares = outside(spec, finite).mean(axis=0) if len(finite) else np.zeros(spec.dims)
    wrong = np.flatnonzero(shares > MOST).tolist()
    if not wrong:
        return None
    worst = max(wrong, key=lambda d: shares[d])
    recorded = np.percentile(finite[:, worst], (5, 95))
    others = f"; so do most of {[spec.names[d] for d in wrong if d != worst]}" if len(wrong) > 1 else ""
    return (
        f"{where}: {shares[worst]:.0%} of the steps of {spec.names[worst]!r} lie outside its bounds "
        f"[{spec.low[worst]:g}, {spec.high[worst]:g}], nine in ten are {recorded[0]:.4g} to {recorded[1]:.4g}{others}. "
        f"These aren't the {_PLURALS[spec.modes[worst]]} in {spec.units[worst]!r} that the action spec says: another "
        "mode (poses in place of deltas?), unit or order of dimensions. Correct the spec; wider bounds would hide it."
    )


def _spec(
    names: Sequence[str], told: list[tuple[ActionKind, ActionMode]], actions: np.ndarray, fps: float
) -> ActionSpec:
    low, high = actions.min(axis=0).astype(float), actions.max(axis=0).astype(float)
    reach = np.maximum(abs(low), abs(high))
    far = any(each == ("translation", "delta") and reach[d] > _FAR for d, each in enumerate(told))
    units = ["as recorded"] * len(told)
    for d, (kind, mode) in enumerate(told):
        alike = [i for i, other in enumerate(told) if other == (kind, mode)]
        if mode != "absolute":
            high[d] = reach[alike].max() if kind in ("translation", "rotation") else reach[d]
            low[d] = -high[d]
        if kind == "quaternion":
            high[d] = max(1.0, reach[d])
            low[d] = -high[d]
        if (mode == "delta" and not far) or kind == "gripper":
            units[d] = {"translation": "m", "rotation": "rad", "angle": "rad", "gripper": "1"}.get(kind, "as recorded")
    constant = ~(low < high)
    low[constant], high[constant] = low[constant] - 1, high[constant] + 1
    kinds, modes = zip(*told, strict=True)
    return ActionSpec(
        names=tuple(names),
        kinds=kinds,
        units=tuple(units),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        frame="base" if {*kinds} & {"translation", "rotation", "quaternion", "angle"} else "joint",
        mode=modes,
        gripper="as recorded" if "gripper" in kinds else "none",
        hz=fps,
    )


def _guess(told: Told) -> tuple[ActionKind, ActionMode]:
    """What is told, and something to correct where nothing is."""
    kind = told.kind or "other"
    return kind, told.mode or ("delta" if kind in ("translation", "rotation", "angle") else "absolute")


def _question(names: Sequence[str], told: Sequence[Told], where: str) -> str:
    """Which names don't tell what, and where the answer goes."""
    kinds = [name for name, each in zip(names, told, strict=True) if each.kind is None]
    modes = [name for name, each in zip(names, told, strict=True) if each.kind is not None and each.mode is None]
    open_to = {"anything": kinds, "deltas, velocities or absolute": modes}
    untold = ", ".join(f"{', '.join(some)} may be {what}" for what, some in open_to.items() if some)
    inside = " or, as JSON, under the key 'rslwm': {'action_spec': ...} of this file" if "info.json" in where else ""
    return (
        f"{where}: the names of the action dimensions don't say what they are: {untold}. {TO_CORRECT} as rslwm.yaml "
        f"in the data set's folder, as any file for --data.action-spec FILE{inside}."
    )


def draft(spec: ActionSpec, told: Sequence[Told]) -> str:
    """The spec as YAML, columns aligned, with a comment above every line that holds a guess."""
    values = spec.to_dict() | {"mode": [*spec.modes]}
    columns = [[_text(values[name][d]) for name in _LISTS] for d in range(spec.dims)]
    widths = [max(map(len, column)) + 2 for column in columns]
    notes = {
        "kinds": _note(spec, [each.kind for each in told], get_args(ActionKind)),
        "mode": _note(spec, [each.mode for each in told], get_args(ActionMode)),
        "units": "  # names don't tell units: correct what you know; 'as recorded' is one, too",
        "low": "  # bounds: as far as was recorded",
        "gripper": f"  # better: {' | '.join(map(repr, GRIPPERS))}" if "gripper" in spec.kinds else "",
    }
    lines = ["action_spec:"]
    for row, name in enumerate(_LISTS):
        cells = [f"{column[row]},".ljust(width) for column, width in zip(columns, widths, strict=True)]
        lines += [notes.get(name, ""), f"  {name + ':':<6} [{''.join(cells).rstrip(', ')}]"]
    for name in ("frame", "gripper", "hz"):
        lines += [notes.get(name, ""), f"  {name}: {_text(values[name])}"]
    return "\n".join(line for line in lines if line)


def _note(spec: ActionSpec, told: Sequence[str | None], known: Sequence[str]) -> str:
    untold = ", ".join(name for name, value in zip(spec.names, told, strict=True) if value is None)
    return f"  # CORRECT, guessed for {untold}; known: {', '.join(known)}" if untold else ""


def _text(value: str | float) -> str:
    """A scalar of YAML that is read back as what it is."""
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z][\w. ]*", value) and yaml.safe_load(value) == value
        return value if plain else yaml.safe_dump(value, default_style='"', allow_unicode=True, width=math.inf).strip()
    text = str(np.float32(value))  # the fewest digits that tell one recorded number from the next
    return text if "e" not in text or "." in text else text.replace("e", ".0e")

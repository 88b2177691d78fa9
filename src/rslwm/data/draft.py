"""What is asked where names don't tell: a spec in YAML, right as far as they do, marked where they don't."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

import numpy as np
import yaml

from rslwm.data.naming import Told
from rslwm.types import GRIPPERS, ActionKind, ActionMode, ActionSpec

_LISTS = ("names", "kinds", "mode", "units", "low", "high")


def guess(told: Told) -> tuple[ActionKind, ActionMode]:
    """What is told, and something to correct where nothing is."""
    kind = told.kind or "other"
    return kind, told.mode or ("delta" if kind in ("translation", "rotation", "angle") else "absolute")


def question(names: Sequence[str], told: Sequence[Told], where: str) -> str:
    """Which names don't tell what, and where the answer goes."""
    pairs = [*zip(names, told, strict=True)]
    kinds = ", ".join(name for name, each in pairs if each.kind is None)
    modes = ", ".join(name for name, each in pairs if each.kind is not None and each.mode is None)
    untold = [f"{kinds} may be anything"] * bool(kinds) + [f"{modes} may be deltas, velocities or absolute"] * bool(
        modes
    )
    inside = " or, as JSON, under the key 'rslwm': {'action_spec': ...} of this file" if "info.json" in where else ""
    return (
        f"{where}: the names of the action dimensions don't say what they are: {', '.join(untold)}. A wrong guess "
        "would ruin composed actions without a word. Correct the lines marked CORRECT below, where they aren't so, and "
        f"save them: as rslwm.yaml in the data set's folder, as any file for --data.action-spec FILE{inside}."
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
        return value if re.fullmatch(r"[A-Za-z][\w. ]*", value) and yaml.safe_load(value) == value else _quoted(value)
    text = str(np.float32(value))  # the fewest digits that tell one recorded number from the next
    return text if "e" not in text or "." in text else text.replace("e", ".0e")


def _quoted(value: str) -> str:
    return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf")).strip()

"""What a server of vla-eval says of its actions, read and written (vla_eval.specs 0.8, protocol version 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from rslwm.dimensions import axis
from rslwm.remote.arrays import ProtocolError
from rslwm.serialisation import ConfigError
from rslwm.types import GRIPPERS, ActionKind, ActionSpec

VERSION = 1
HARNESS = "0.8.0"
"""Whose messages are spoken."""

_POSITIONS = {"delta_xyz": "delta", "absolute_xyz": "absolute"}
_ROTATIONS = {"euler_xyz": "euler_xyz", "axis_angle": "rotation_vector"}
_GRIPPERS = {
    "binary_close_positive": ("-1 is open, 1 is closed",),
    "binary_close_negative": ("1 is open, -1 is closed",),
    "binary_close_01": (GRIPPERS[1],),
    "continuous_01": GRIPPERS,  # which of them isn't told
}
_UNREADABLE = ("quaternion_xyzw", "rot6d_interleaved")


@dataclass(frozen=True)
class Told:
    """What an action spec of theirs tells; None and empty is what it doesn't."""

    width: int | None = None
    mode: str | None = None
    rotation: str | None = None
    gripper: str | None = None
    grippers: tuple[str, ...] = ()
    """What the gripper can be."""
    parts: tuple[tuple[ActionKind | str, int | None], ...] = ()
    """Of every column its kind and axis, empty and None where that isn't told."""

    def columns_of(self, spec: ActionSpec) -> dict[str, int]:
        """Where the dimensions of ``spec`` are, if every column has its kind and axis and none of them twice."""
        own = [(kind, None if kind == "gripper" else axis(n)) for n, kind in zip(spec.names, spec.kinds, strict=True)]
        if len({*own}) < spec.dims or len({*self.parts}) < len(self.parts) or not {*own} <= {*self.parts}:
            return {}
        return {name: self.parts.index(part) for name, part in zip(spec.names, own, strict=True)}


def told(hello: dict[str, Any]) -> Told:
    """From a server's ``hello``.

    Raises:
        ConfigError: another protocol version, or turns as quaternions or matrices, which aren't converted.
        ProtocolError: an action spec that isn't one.
    """
    if (version := hello.get("protocol_version")) != VERSION:
        raise ConfigError(f"the server speaks protocol version {version!r} of vla-eval, this client {VERSION}")
    if not (spec := hello.get("action_spec")):
        return Told()
    components = [*_components(spec)]
    parts: list[tuple[str, int | None]] = []
    says: dict[str, set[Any]] = {"mode": set(), "rotation": set(), "grippers": set()}
    for name, form, dims in components:
        if form in _UNREADABLE:
            raise ConfigError(f"action_spec.{name}: turns as {form!r} aren't converted; serve axis_angle or euler_xyz")
        if form in _POSITIONS or form in _ROTATIONS:
            kind = "translation" if form in _POSITIONS else "rotation"
            if dims != 3:
                raise ProtocolError(f"action_spec.{name}: {form!r} of {dims} dimensions; expected 3")
            parts += [(kind, i) for i in range(3)]
            says["mode" if form in _POSITIONS else "rotation"].add((_POSITIONS | _ROTATIONS)[form])
        else:
            parts += [("gripper" if form in _GRIPPERS else "", None)] * dims
            says["grippers"] |= {_GRIPPERS[form]} if form in _GRIPPERS else set()
    if several := [name for name, found in says.items() if len(found) > 1]:
        raise ProtocolError(f"action_spec: components differ in {several[0]}: {says[several[0]]}")
    mode, rotation, grippers = (next(iter(found), None) for found in says.values())
    gripper = grippers[0] if grippers and len(grippers) == 1 else None
    return Told(len(parts) or None, mode, rotation, gripper, grippers or (), tuple(parts))


def _components(spec: Any) -> Iterator[tuple[str, str, int]]:
    """Name, format and dimensions, in the order of the columns."""
    if not isinstance(spec, dict) or len(spec) > 64:
        raise ProtocolError(f"action_spec is {type(spec).__name__}; expected a map of a few components")
    for name, one in spec.items():
        dims, form = (one.get("dims"), one.get("format")) if isinstance(one, dict) else (None, None)
        if type(dims) is not int or not 0 <= dims <= 64 or not isinstance(form, str):
            raise ProtocolError(f"action_spec.{name}: expected 'dims' from 0 to 64 and a 'format', got {one!r:.200}")
        yield str(name), form, dims


def action_spec(spec: ActionSpec) -> dict[str, dict[str, Any]]:
    """Ours as theirs, of actions as :func:`outgoing` gives them. ``raw`` is what they have no word for."""
    found: dict[str, dict[str, Any]] = {}
    for (kind, mode), group in groupby(range(spec.dims), lambda i: (spec.kinds[i], spec.modes[i])):
        places = [*group]
        name, form, low, high = {"translation": "position"}.get(kind, kind), "raw", spec.low, spec.high
        three = [axis(spec.names[i]) for i in places] == [0, 1, 2]
        if kind == "translation" and three and mode != "velocity":
            form = f"{mode}_xyz"
        if kind == "rotation" and three and mode == "delta":
            form = "axis_angle"
        if kind == "gripper" and spec.gripper in GRIPPERS:
            form, low, high = "binary_close_positive", (-1.0,) * spec.dims, (1.0,) * spec.dims
        units = ", ".join(dict.fromkeys(spec.units[i] for i in places))
        found[name if name not in found else f"{name}_{places[0]}"] = {
            "name": name,
            "dims": len(places),
            "format": form,
            "range": [min(low[i] for i in places), max(high[i] for i in places)],
            "description": f"{', '.join(spec.names[i] for i in places)} in {units}, {mode}, {spec.frame} axes",
        }
    return found


def outgoing(actions: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Actions (..., A) in units with grippers as vla-eval has a word for: -1 open, 1 closed."""
    if spec.gripper not in GRIPPERS:
        return actions
    sent, places = np.array(actions, np.float32), spec.where("gripper")
    closed = sent[..., places] if spec.gripper == GRIPPERS[1] else 1 - sent[..., places]
    sent[..., places] = 2 * closed - 1
    return sent

"""What the name of an action dimension tells: a positive list. Whatever isn't in it is asked for, never guessed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rslwm.dimensions import axis, stem, words
from rslwm.types import ActionKind, ActionMode


class Told(NamedTuple):
    """What a name tells of its dimension; None is what it doesn't."""

    kind: ActionKind | None
    mode: ActionMode | None


_DELTA = {"delta", "deltas", "diff", "increment", "displacement"}
_VELOCITY = {"vel", "velocity", "velocities", "qvel", "speed", "omega"}
_ABSOLUTE = {"abs", "absolute"}
_POSITION = {"pos", "position", "positions", "qpos"}
"""Of a joint or a gripper it is its target, as LeRobot writes it; of a hand it may as well be what a delta changes."""

_GRIPPER = {"grip", "jaw", "claw", "closedness"}
_JOINT = {
    *("joint", "joints", "motor", "servo", "dof", "qpos", "qvel", "shoulder", "elbow", "wrist", "forearm", "upperarm"),
    *("waist", "torso", "neck", "head", "hip", "knee", "ankle", "pan", "tilt", "lift", "flex"),
    *("thumb", "index", "middle", "ring", "pinky", "finger", "knuckle", "antenna"),
}
_HAND = {"ee", "eef", "tcp", "tool", "hand", "end", "effector", "pose", "cartesian", "translation", "rotation", "rot"}
_ANGLE = {"theta", "heading", "angle", "vertical", "angular", "omega"}
_ROTATION = {
    *("rotation", "rot", "rotvec", "rvec", "axisangle", "axangle", "orientation", "ori", "euler", "rpy"),
    *("roll", "pitch", "yaw"),
}
_FORCE = {"force", "torque", "wrench", "effort", "current", "stiffness", "damping", "acc", "acceleration"}
"""Neither deltas nor targets of a motion, whatever their axes are."""

_QUATERNION = {"quat", "quaternion"}
_END = {"terminate", "terminated", "terminal", "termination", "done"}
_SIDES = {"left", "right", "l", "r", "main", "follower", "leader", "arm"}

ARMS: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset({"shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"}), frozenset()),
    (
        frozenset({"waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate"}),
        frozenset({"shoulder_shadow", "elbow_shadow"}),
    ),
)
"""The motors of arms that LeRobot's recorders drive by target positions, Koch and SO-100, ViperX (ALOHA): all, more."""


def read_names(names: Sequence[str]) -> list[Told]:
    """What each of these names of one vector's dimensions tells, on its own and by its neighbours."""
    kinds = [_kind(name) for name in names]
    told = [Told(kind, _mode(name, kind)) for name, kind in zip(names, kinds, strict=True)]
    hands = {stem(name) for name, kind in zip(names, kinds, strict=True) if kind == "translation"}
    for i, name in enumerate(names):
        if told[i].kind == "joint" and axis(name) is not None and stem(name) in hands:
            told[i] = Told("rotation", _mode(name, "rotation"))  # wrist_delta_roll beside wrist_delta_x
    _twists(names, told)
    _vectors(names, told)
    _arms(names, told)
    return told


def _kind(name: str) -> ActionKind | None:
    said, along = {*words(name)}, axis(name)
    letter = bool(said & {"x", "y", "z"})
    gripper = said & _GRIPPER or any(word.startswith(("gripper", "grasp")) for word in said)
    numbered = any(word.isdigit() for word in said)
    rules: list[tuple[ActionKind, object]] = [
        ("other", said & _END),
        ("gripper", gripper and along is None),
        ("quaternion", along is not None and (said & _QUATERNION or "w" in said)),
        ("rotation", letter and said & (_ROTATION | _ANGLE)),
        ("translation", letter),
        ("joint", said & _JOINT or (numbered and said & {"j", "q", "theta"})),
        ("rotation", along is not None or (numbered and (said & _ROTATION or {"axis", "angle"} <= said))),
        ("angle", said & _ANGLE and not numbered),
        ("translation", "linear" in said and said & _VELOCITY),
        ("joint", len(said) > 1 and words(name)[-1] in ("pos", "vel", "speed") and not said & _HAND),
    ]
    return None if said & _FORCE else next((kind for kind, holds in rules if holds), None)


def _mode(name: str, kind: ActionKind | None) -> ActionMode | None:
    order = words(name)
    said = {*order}
    modes: dict[ActionMode, object] = {
        "delta": said & _DELTA or ("d" in order[:-1]) or {"world", "vector"} <= said,  # the last: RT-1's
        "velocity": said & _VELOCITY or "v" in order[:-1],
        "absolute": said & _ABSOLUTE,
    }
    found: list[ActionMode] = [mode for mode, holds in modes.items() if holds]
    position = bool(said & _POSITION)
    if found:
        return None if len(found) > 1 or (position and found == ["velocity"]) else found[0]
    return "absolute" if kind in ("gripper", "other") or (position and kind in ("joint", "angle")) else None


def _twists(names: Sequence[str], told: list[Told]) -> None:
    """``wx`` is a velocity beside ``vx``; by itself it may be the component of a rotation vector."""
    linear = {stem(name) for name, each in zip(names, told, strict=True) if each == ("translation", "velocity")}
    for i, name in enumerate(names):
        if {*words(name)} & {"wx", "wy", "wz"} and (*stem(name), "vel") in linear:
            told[i] = told[i]._replace(mode="velocity")


def _vectors(names: Sequence[str], told: list[Told]) -> None:
    """A rotation takes three axes, a quaternion four: one or two are angles, and what is left of four tells nothing."""
    numberless = [tuple(word for word in words(name) if not word.isdigit()) for name in names]
    vectors = [numberless[i] if axis(name) is None else stem(name) for i, name in enumerate(names)]
    for turns in _grouped(vectors, [i for i, each in enumerate(told) if each.kind in ("rotation", "quaternion")]):
        axes = [axis(names[i]) for i in turns]
        known = sorted(along for along in axes if along is not None)
        kind: ActionKind | None = None
        if any(told[i].kind == "quaternion" for i in turns):
            kind = "quaternion" if known == [0, 1, 2, 3] else None
        elif known == [0, 1, 2] or (not known and len(turns) == 3):
            kind = "rotation"
        elif len({*known}) == len(turns) < 3:
            kind = "angle"
        for i in turns:
            told[i] = told[i]._replace(kind=kind)


def _arms(names: Sequence[str], told: list[Told]) -> None:
    """Joints of which nothing is said are targets where those of one side are the motors of one of :data:`ARMS`."""
    sides = [tuple(word for word in words(name) if word in _SIDES) for name in names]
    motor = ["_".join(word for word in words(name) if word not in _SIDES) for name in names]
    for motors in _grouped(sides, [i for i, each in enumerate(told) if each == ("joint", None)]):
        found = {motor[i] for i in motors}
        if any(needed <= found <= needed | more for needed, more in ARMS):
            for i in motors:
                told[i] = Told("joint", "absolute")


def _grouped(keys: Sequence[tuple[str, ...]], members: list[int]) -> Iterable[list[int]]:
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i in members:
        groups[keys[i]].append(i)
    return groups.values()

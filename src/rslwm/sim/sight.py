"""What of the truth a picture shows, as numbers, and the expert's task and state that these numbers make up."""

from __future__ import annotations

import numpy as np

from rslwm.sim.scene import FINGER_TRAVEL
from rslwm.sim.tasks import DRAWER, FAMILIES, Pose, TableState, Task

FACTS: dict[str, int] = {
    "gripper": 3,
    "hand_yaw": 2,
    "gap": 1,
    "thing": 3,
    "thing_yaw": 2,
    "goal": 3,
    "opening": 1,
    "held": 1,
    "touched": 1,
    "family": len(FAMILIES),
    "open": 1,
}
"""Facts and how many numbers each is. The thing is the object that has to move, or the drawer's handle."""

WIDTH = sum(FACTS.values())
METRES = 0.1
"""Metres that are 1 among the facts."""

_CENTRE = np.array([0.29, 0.0, 0.05])  # of the places on the table, in metres
_THING = "thing"  # the name of the object that the instruction means, whatever its colour


def where(fact: str) -> slice:
    """The numbers of one fact."""
    start = sum([*FACTS.values()][: [*FACTS].index(fact)])
    return slice(start, start + FACTS[fact])


def facts(task: Task, state: TableState) -> np.ndarray:
    """All numbers of :data:`FACTS` after each other, about as large as 1. What can't be seen isn't among them: how a
    cylinder is turned, or that the controller asks for another pose than the hand has."""
    forward = state.gripper_rotation[:, 2]
    yaw = np.arctan2(forward[1], forward[0])
    if task.family == "drawer":
        thing, turn, name = state.handle_position, 0.0, DRAWER
    else:
        pose, name = state.objects[task.target], task.target
        thing, turn = pose.position, pose.yaw if pose.square else 0.0
    values = {
        "gripper": _scaled(state.gripper_position),
        "hand_yaw": [np.cos(yaw), np.sin(yaw)],
        "gap": state.gripper_gap / FINGER_TRAVEL - 1,
        "thing": _scaled(thing),
        "thing_yaw": [np.cos(4 * turn), np.sin(4 * turn)],  # the same after a quarter turn
        "goal": _scaled(state.goal_position),
        "opening": state.drawer_opening / METRES,
        "held": name in state.held,
        "touched": name in state.touched,
        "family": [task.family == family for family in FAMILIES],
        "open": task.goal == "open",
    }
    return np.concatenate([np.atleast_1d(np.asarray(values[fact], np.float32)) for fact in FACTS])


def places(numbers: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Where the gripper, the thing and the goal of facts (N, WIDTH) are in the picture of a camera, a matrix (3, 4) of
    :meth:`rslwm.sim.tabletop.Tabletop.camera`: (N, 3, 2), right and down from its corner, its side being 1."""
    scaled = np.stack([numbers[:, where(name)] for name in ("gripper", "thing", "goal")], 1)
    seen = _metres(scaled) @ camera[:, :3].T + camera[:, 3]
    return (seen[..., :2] / seen[..., 2:]).astype(np.float32)


def as_seen(numbers: np.ndarray) -> tuple[Task, TableState]:
    """The task and state, for :func:`rslwm.sim.experts.expert_action`, of whoever knows these facts (WIDTH,) only."""
    from rslwm.sim.arm import GRIPPER_DOWN, rotation_matrix  # what is only looked at needs no simulator

    parts = np.split(np.asarray(numbers, float), np.cumsum([*FACTS.values()])[:-1])
    seen = dict(zip(FACTS, parts, strict=True))
    family = [*FAMILIES][int(seen["family"].argmax())]
    drawer = family == "drawer"
    name = DRAWER if drawer else _THING
    goal = ("open" if seen["open"][0] > 0.5 else "closed") if drawer else "goal"
    thing, position = _metres(seen["thing"]), _metres(seen["gripper"])
    turn = float(np.arctan2(seen["thing_yaw"][1], seen["thing_yaw"][0])) / 4
    yaw = float(np.arctan2(seen["hand_yaw"][1], seen["hand_yaw"][0]))
    rotation = rotation_matrix(np.array([0.0, 0.0, yaw])) @ GRIPPER_DOWN
    state = TableState(
        gripper_position=position,
        gripper_rotation=rotation,
        gripper_gap=float(seen["gap"][0] + 1) * FINGER_TRAVEL,
        target_position=position,
        target_rotation=rotation,
        joint_position=np.zeros(6),
        objects={} if drawer else {_THING: Pose(thing, turn, True)},
        goal_position=_metres(seen["goal"]),
        drawer_opening=float(seen["opening"][0]) * METRES if drawer else 0.0,
        handle_position=thing if drawer else np.zeros(3),
        touched=frozenset([name] if seen["touched"][0] > 0.5 else []),
        held=frozenset([name] if seen["held"][0] > 0.5 else []),
    )
    return Task(family, name, goal), state


def _scaled(position: np.ndarray) -> np.ndarray:
    return (position - _CENTRE) / METRES


def _metres(scaled: np.ndarray) -> np.ndarray:
    return scaled * METRES + _CENTRE

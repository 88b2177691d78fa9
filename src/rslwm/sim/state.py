"""What is true on the table at one moment: the input of success rules and experts, and the recorded ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rslwm.sim.scene import COLOURS

DRAWER = "drawer"
"""The name of the drawer among the things that the hand can hold or touch."""

STATE_NAMES: dict[str, list[str]] = {
    "gripper_position": ["x", "y", "z"],
    "gripper_opening": ["gap"],
    "object_position": [f"{colour}_{axis}" for colour in COLOURS for axis in "xyz"],
    "object_present": list(COLOURS),
    "goal_position": ["x", "y", "z"],
    "contact": ["contact"],
    "drawer_opening": ["opening"],
    "joint_position": [f"joint{j}" for j in range(6)],
}
"""The recorded state vectors and the name of each of their dimensions; lengths in metres, angles in radians."""


@dataclass(frozen=True)
class Pose:
    """Where an object is: position (3,) in metres and rotation about the vertical in radians."""

    position: np.ndarray
    yaw: float


@dataclass(frozen=True)
class TableState:
    """Positions (3,) in metres in the base frame, rotations (3, 3).

    ``target_position`` and ``target_rotation`` are the pose that the controller was last asked for; actions are deltas
    to it. ``touched`` names what the fingers or the palm touch, ``held`` what both fingers touch.
    """

    gripper_position: np.ndarray
    gripper_rotation: np.ndarray
    gripper_gap: float
    target_position: np.ndarray
    target_rotation: np.ndarray
    joint_position: np.ndarray
    objects: dict[str, Pose]
    goal_position: np.ndarray
    drawer_opening: float
    handle_position: np.ndarray
    touched: frozenset[str]
    held: frozenset[str]

    def vectors(self) -> dict[str, np.ndarray]:
        """The recorded ground truth, one float32 vector for every entry of ``STATE_NAMES``."""
        absent = Pose(np.zeros(3), 0.0)
        values = vars(self) | {
            "gripper_opening": self.gripper_gap,
            "object_position": np.concatenate([self.objects.get(colour, absent).position for colour in COLOURS]),
            "object_present": [colour in self.objects for colour in COLOURS],
            "contact": bool(self.touched),
        }
        return {name: np.atleast_1d(np.asarray(values[name], np.float32)) for name in STATE_NAMES}

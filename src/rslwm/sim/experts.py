"""Scripted experts: feedback laws from the true state to an action.

They keep no memory. What to do next follows from where things are, so an expert takes over from any state, corrects
for noise, tries again after a slip, and can be asked for the best action in a restored or counterfactual state.
An action of several control steps is bounded by what these may do together.
"""

from __future__ import annotations

import numpy as np

from rslwm.sim.arm import GRIPPER_DOWN, rotation_matrix, rotation_vector
from rslwm.sim.scene import FINGER_TRAVEL, HALF, ROTATION_BOUND, TRANSLATION_BOUND
from rslwm.sim.tasks import DRAWER, FAMILIES, TableState, Task

OPEN, CLOSED = 1.0, 0.0

# In metres:
_HOVER = 0.095  # height of the gripper at which the fingers clear every object that stands on the table
_CARRY = 0.055  # height above its goal at which an object is carried
_PULL = 0.008  # motion of the drawer in a step
_NEAR = 0.015  # horizontal error below which the gripper may go down


def expert_action(task: Task, state: TableState, steps: int = 1) -> np.ndarray:
    """The action (7,) of so many control steps that brings the task forward, within the bounds; retreats upwards once
    the goal is reached."""
    if FAMILIES[task.family].reached(task, state):
        return retreat(task, state, steps)
    return _EXPERTS[task.family](task, state, steps)


def retreat(task: Task, state: TableState, steps: int = 1) -> np.ndarray:
    """Let go and up, done or not. Closed fingers that open would shove what was pushed."""
    return towards(state, state.gripper_position, 0.14, 0.0, CLOSED if task.family == "push" else OPEN, steps)


def towards(
    state: TableState, place: np.ndarray, height: float, yaw: float | None, gripper: float, steps: int = 1
) -> np.ndarray:
    """A straight step towards a pose with the gripper down; ``yaw`` None keeps the present one."""
    step = np.array([*place[:2], height]) - state.target_position
    step *= min(1.0, steps * TRANSLATION_BOUND / max(np.abs(step).max(), 1e-9))
    wanted = rotation_matrix(np.array([0.0, 0.0, _yaw(state) if yaw is None else yaw])) @ GRIPPER_DOWN
    turn = rotation_vector(wanted @ state.target_rotation.T)
    return np.concatenate([step, np.clip(turn, -steps * ROTATION_BOUND, steps * ROTATION_BOUND), [gripper]])


def _yaw(state: TableState) -> float:
    """Rotation of the hand about the vertical; with the gripper down its z axis is horizontal."""
    forward = state.target_rotation[:, 2]
    return float(np.arctan2(forward[1], forward[0]))


def _nearest(angle: float, period: float, reference: float) -> float:
    """Of the angles that are ``period`` apart from ``angle``, the one nearest to the reference."""
    return float(reference + (angle - reference + period / 2) % period - period / 2)


def _grasped(state: TableState, thing: str, at: np.ndarray) -> bool:
    """Whether the fingers hold the thing, or are closing with it between them."""
    inside = np.linalg.norm(at - state.gripper_position) < 0.03
    return thing in state.held or bool(inside and state.gripper_gap < 0.8 * 2 * FINGER_TRAVEL)


def _grasp(state: TableState, at: np.ndarray, yaw: float, steps: int) -> np.ndarray:
    """Come down over ``at`` with open fingers and close them."""
    offset = state.gripper_rotation.T @ (at - state.gripper_position)  # x is down, y from finger to finger
    between = abs(offset[1]) < _NEAR and abs(offset[2]) < 0.020
    if between and abs(_yaw(state) - yaw) < 0.25:
        return towards(state, at, at[2], yaw, CLOSED if abs(offset[0]) < 0.014 else OPEN, steps)
    return _hover(state, at, yaw, OPEN, steps)


def _hover(state: TableState, place: np.ndarray, yaw: float, gripper: float, steps: int) -> np.ndarray:
    """Straight up, then over a place."""
    low = state.gripper_position[2] < _HOVER - 0.02
    return towards(state, state.gripper_position if low else place, _HOVER, yaw, gripper, steps)


def _pick_and_place(task: Task, state: TableState, steps: int) -> np.ndarray:
    target = state.objects[task.target]
    if not _grasped(state, task.target, target.position):
        return _grasp(state, target.position, _nearest(target.yaw, np.pi / 2, 0.0), steps)
    offset = state.goal_position - target.position
    away = np.linalg.norm(offset[:2])
    aim = state.target_position + offset
    if away > 0.015:
        # Straight up first, so as not to sweep over what stands beside it.
        place = aim if offset[2] < -_CARRY + 0.015 or away < 0.03 else state.target_position
        return towards(state, place, aim[2] + _CARRY, None, CLOSED, steps)
    return towards(state, aim, aim[2], None, CLOSED if offset[2] < -0.010 else OPEN, steps)


def _push(task: Task, state: TableState, steps: int) -> np.ndarray:
    target, goal = state.objects[task.target].position[:2], state.goal_position[:2]
    distance = float(np.linalg.norm(goal - target))
    along = (goal - target) / max(distance, 1e-6)
    # The outside of one finger faces the object: a cylinder would wedge itself between the two.
    across = np.arctan2(along[1], along[0]) + np.pi / 2
    yaw = float(np.clip(_nearest(across, np.pi, _yaw(state)), -1.3, 1.3))
    offset = state.gripper_position[:2] - target
    ahead = float(offset @ along)
    aside = offset - ahead * along
    behind = ahead < -HALF and np.linalg.norm(aside) < 0.025
    low = 0.020
    if behind and state.gripper_position[2] < 0.045:
        place = state.gripper_position[:2] + along * min(steps * 0.024, distance + 0.004) - 0.9 * aside
        return towards(state, place, low, yaw, CLOSED, steps)
    start = target - 0.062 * along
    if behind and np.linalg.norm(start - state.gripper_position[:2]) < _NEAR:
        return towards(state, start, low, yaw, CLOSED, steps)
    return _hover(state, start, yaw, CLOSED, steps)


def _slide(task: Task, state: TableState, steps: int) -> np.ndarray:
    if not _grasped(state, DRAWER, state.handle_position):
        return _grasp(state, state.handle_position, 0.0, steps)
    left = np.clip(state.goal_position - state.handle_position, -steps * _PULL, steps * _PULL)
    return towards(state, state.target_position + left, state.handle_position[2], 0.0, CLOSED, steps)


_EXPERTS = {"push": _push, "pick": _pick_and_place, "stack": _pick_and_place, "drawer": _slide}

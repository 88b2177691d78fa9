"""With a frame skip, several recorded actions lie between two frames of a clip: what is the action then?"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from rslwm.types import ActionSpec, DataError


def compose(actions: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """The one action that has the effect of ``s`` consecutive ones, (..., s, A) -> (..., A), in the spec's units.

    Translations add up. Rotation vectors compose extrinsically (each about the axes of ``spec.frame``, so the later
    one multiplies from the left). Of the gripper and of any other dimension the last value counts, as it does of
    every dimension of absolute actions.

    Raises:
        DataError: a delta spec whose rotations don't come in threes.
    """
    result = actions[..., -1, :].astype(np.float32)
    if spec.mode == "absolute" or actions.shape[-2] == 1:
        return result
    moves, turns = spec.where("translation"), spec.where("rotation")
    if len(turns) % 3:
        raise DataError(
            f"the action spec has {len(turns)} rotation dimensions {[spec.names[i] for i in turns]}; rotation vectors "
            "have three. Mark single angles as 'other' in the spec's kinds."
        )
    result[..., moves] = actions[..., moves].sum(axis=-2)
    for vector in (turns[i : i + 3] for i in range(0, len(turns), 3)):
        steps = actions[..., vector].reshape(-1, actions.shape[-2], 3)
        total = Rotation.from_rotvec(steps[:, 0])
        for s in range(1, steps.shape[1]):
            total = Rotation.from_rotvec(steps[:, s]) * total
        result[..., vector] = total.as_rotvec().reshape(*actions.shape[:-2], 3)
    return result


def first(actions: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """The first of ``s`` consecutive actions, (..., s, A) -> (..., A): what the paper's published code does."""
    return actions[..., 0, :].astype(np.float32)

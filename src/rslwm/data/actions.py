"""With a frame skip, several recorded actions lie between two frames of a clip: what is the action then?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial, reduce

import numpy as np
import scipy

from rslwm.types import ActionSpec, DataError

_RADIANS, _DEGREES = ("rad", "radian", "radians"), ("deg", "degree", "degrees", "°")


def compose(actions: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """The one action that has the effect of ``s`` consecutive ones, (..., s, A) -> (..., A), in the spec's units.

    Deltas add up; those of rotation vectors and quaternions compose extrinsically (each about the axes of
    ``spec.frame``, so the later one multiplies from the left), every vector for itself, rotation vectors in units other
    than rad and deg to first order, which is adding. Velocities are averaged. Of what is absolute, grippers as a rule,
    the last value counts. Composed quaternions have w >= 0. Raises DataError: a quaternion is zero.
    """
    result = actions[..., -1, :].astype(np.float32)
    if actions.shape[-2] == 1:
        return result
    adds = [i for i, mode in enumerate(spec.modes) if mode == "delta"]  # rotations are written over below
    means = [i for i, mode in enumerate(spec.modes) if mode == "velocity"]
    result[..., adds] = actions[..., adds].sum(axis=-2)
    result[..., means] = actions[..., means].mean(axis=-2)
    for vector in spec.rotations:
        unit = spec.units[vector[0]].lower()
        if unit in (*_RADIANS, *_DEGREES):  # those of other units have been added above
            turn = partial(scipy.spatial.transform.Rotation.from_rotvec, degrees=unit in _DEGREES)
            total = _composed(map(turn, _steps(actions, vector))).as_rotvec(degrees=unit in _DEGREES)
            result[..., vector] = total.reshape(*actions.shape[:-2], 3)
    for vector in (each for each in spec.quaternions if spec.modes[each[0]] == "delta"):
        steps = _steps(actions, vector)
        if (np.linalg.norm(steps, axis=-1) == 0).any():
            remedy = "which is no rotation; none at all is x = y = z = 0, w = 1. Cut such steps off"
            raise DataError(f"a quaternion {[spec.names[i] for i in vector]} is zero, {remedy}.")
        total = _composed(map(scipy.spatial.transform.Rotation.from_quat, steps))
        result[..., vector] = total.as_quat(canonical=True).reshape(*actions.shape[:-2], 4)
    return result


def _steps(actions: np.ndarray, vector: list[int]) -> np.ndarray:
    """(..., s, A) -> (s, N, 3 or 4)"""
    steps = actions[..., vector]
    return np.moveaxis(steps.reshape(-1, *steps.shape[-2:]), 1, 0)


def _composed(steps: Iterable[scipy.spatial.transform.Rotation]) -> scipy.spatial.transform.Rotation:
    return reduce(lambda total, step: step * total, steps)


def first(actions: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """The first of ``s`` consecutive actions, (..., s, A) -> (..., A): what the paper's published code does."""
    return actions[..., 0, :].astype(np.float32)

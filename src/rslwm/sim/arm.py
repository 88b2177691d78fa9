"""Kinematics of the arm, on a model without anything else."""

from __future__ import annotations

import numpy as np

from rslwm.sim.engine import mujoco
from rslwm.sim.scene import JOINTS, arm_xml

GRIPPER_DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""Rotation of the hand whose fingers point at the table, open along y."""

_DAMPING = 1e-5
_ROTATION_WEIGHT = 0.3  # metres that one radian counts for in the solver's error


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Rotation vector (3,), axis times angle in radians, to a matrix (3, 3)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    quaternion, matrix = np.zeros(4), np.zeros(9)
    mujoco.mju_axisAngle2Quat(quaternion, np.asarray(vector, float) / angle, angle)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Inverse of :func:`rotation_matrix`, for angles up to pi."""
    quaternion, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, matrix.ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector


class ArmKinematics:
    """Where joint angles put the gripper, and which joint angles put it where."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(arm_xml())
        self.data = mujoco.MjData(self.model)
        self.site = self.model.site("gripper").id
        self.joints = [self.model.joint(name).qposadr[0] for name in JOINTS]
        self.limits = self.model.jnt_range[[self.model.joint(name).id for name in JOINTS]]

    def forward(self, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joint angles (6,) to the gripper's position (3,) and rotation (3, 3) in the base frame."""
        self.data.qpos[self.joints] = angles
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)  # mj_jacSite needs it
        return self.data.site_xpos[self.site].copy(), self.data.site_xmat[self.site].reshape(3, 3).copy()

    def inverse(
        self, angles: np.ndarray, position: np.ndarray, rotation: np.ndarray, iterations: int = 12
    ) -> np.ndarray:
        """Joint angles (6,) in their limits, near ``angles``, that come closest to the pose; damped least squares."""
        moving, spinning = np.zeros((3, self.model.nv)), np.zeros((3, self.model.nv))
        for _ in range(iterations):
            reached, facing = self.forward(angles)
            error = np.concatenate([position - reached, _ROTATION_WEIGHT * rotation_vector(rotation @ facing.T)])
            if np.linalg.norm(error) < 1e-5:
                break
            mujoco.mj_jacSite(self.model, self.data, moving, spinning, self.site)
            # The six joints come first among the degrees of freedom, the fingers last.
            jacobian = np.vstack([moving[:, :6], _ROTATION_WEIGHT * spinning[:, :6]])
            change = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING * np.eye(6), error)
            angles = np.clip(angles + change, self.limits[:, 0], self.limits[:, 1])
        return angles

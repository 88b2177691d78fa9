import numpy as np
import pytest

from rslwm.sim.arm import GRIPPER_DOWN, ArmKinematics, rotation_matrix, rotation_vector
from rslwm.sim.scene import HOME


def test_rotation_vector_inverts_rotation_matrix():
    vector = np.array([0.3, -1.1, 0.7])
    np.testing.assert_allclose(rotation_vector(rotation_matrix(vector)), vector, atol=1e-12)


def test_rotation_about_the_vertical_has_its_closed_form():
    c, s = np.cos(0.4), np.sin(0.4)
    np.testing.assert_allclose(rotation_matrix(np.array([0, 0, 0.4])), [[c, -s, 0], [s, c, 0], [0, 0, 1]], atol=1e-12)


@pytest.mark.parametrize("place", [(0.22, -0.12, 0.02), (0.30, 0.0, 0.15), (0.42, 0.12, 0.02)])
def test_inverse_kinematics_reaches_the_workspace(place):
    arm = ArmKinematics()
    angles = arm.inverse(HOME, np.array(place), GRIPPER_DOWN, iterations=100)
    position, rotation = arm.forward(angles)
    np.testing.assert_allclose(position, place, atol=1e-4)
    np.testing.assert_allclose(rotation, GRIPPER_DOWN, atol=1e-3)


def test_an_unreachable_pose_keeps_the_joints_within_their_limits():
    arm = ArmKinematics()
    angles = arm.inverse(HOME, np.array([2.0, 0.0, 0.1]), GRIPPER_DOWN, iterations=100)
    assert np.isfinite(angles).all()
    assert (angles >= arm.limits[:, 0]).all()
    assert (angles <= arm.limits[:, 1]).all()

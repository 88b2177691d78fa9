"""What names of action dimensions tell, and which don't."""

import pytest

from rslwm.data.naming import Told, read_names

SO100 = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"]
VIPERX = ["waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate"]


@pytest.mark.parametrize(
    ("names", "kind", "mode"),
    [
        (
            "delta_x dy d_z deltaX x_delta Δy left.delta.z tcp_delta_x ee_delta_y eef_pos_delta_z dpos_x",
            "translation",
            "delta",
        ),
        (
            "world_vector_x world_vector_y world_vector_z base_displacement_vector_x gripper_delta_x",
            "translation",
            "delta",
        ),
        ("x.vel vy v_z base_x.vel mobile_base.vx linear_velocity_x linear.vel", "translation", "velocity"),
        ("abs_x absolute_y", "translation", "absolute"),
        ("delta_roll delta_pitch delta_yaw", "rotation", "delta"),
        ("tcp_delta_rx tcp_delta_ry tcp_delta_rz", "rotation", "delta"),
        ("rotation_delta_x rotation_delta_y rotation_delta_z", "rotation", "delta"),
        ("right_dyaw right_dpitch right_droll", "rotation", "delta"),
        ("drot_x drot_y drot_z", "rotation", "delta"),
        ("delta_axangle_x delta_axangle_y delta_axangle_z", "rotation", "delta"),
        ("delta_axis_angle_1 delta_axis_angle_2 delta_axis_angle_3", "rotation", "delta"),
        ("cmd_vel.angular.x cmd_vel.angular.y cmd_vel.angular.z", "rotation", "velocity"),
        ("delta_yaw", "angle", "delta"),
        ("delta_pitch left_delta_yaw delta_theta base_displacement_vertical_rotation", "angle", "delta"),
        ("theta.vel base.vtheta base_theta.vel omega angular_vel", "angle", "velocity"),
        ("dqw dqx dqy dqz", "quaternion", "delta"),
        ("delta_quat_x delta_quat_y delta_quat_z delta_quat_w", "quaternion", "delta"),
        ("rotation_delta_x rotation_delta_y rotation_delta_z rotation_delta_w", "quaternion", "delta"),
        ("delta_joint_1 joint_1_delta delta_j2 q3_delta delta_shoulder_pan left_wrist_roll_delta", "joint", "delta"),
        ("joint_1.vel qvel_2 motor_3_velocity left_wheel.vel neck_yaw.vel", "joint", "velocity"),
        ("shoulder_pan.pos main_elbow_flex.pos motor_1.pos wrist_roll.pos neck_yaw.pos arm.pos", "joint", "absolute"),
        ("joint_1_position qpos_3 joint1.pos l_antenna.pos", "joint", "absolute"),
        ("gripper left_gripper gripper.pos gripper_closedness_action Jaw ee.gripper_pos", "gripper", "absolute"),
        ("delta_gripper gripper_delta", "gripper", "delta"),
        ("gripper.vel", "gripper", "velocity"),
        ("terminate_episode", "other", "absolute"),
        (" ".join(f"main_{motor}" for motor in SO100), "joint", "absolute"),
        (" ".join(f"{side}_{motor}" for side in ("left", "right") for motor in VIPERX), "joint", "absolute"),
    ],
)
def test_names_that_tell(names: str, kind: str, mode: str) -> None:
    told = read_names(names.split())
    assert {name: (each.kind, each.mode) for name, each in zip(names.split(), told, strict=True)} == {
        name: (kind, mode) for name in names.split()
    }


@pytest.mark.parametrize(
    "names",
    [
        "x y z roll pitch yaw",
        "ee.x ee.y ee.z ee.wx ee.wy ee.wz",
        "target_x goal_y pos_z rel_x",
        "eef_pos_0 eef_pos_1 eef.pos",
        "joint_0 joint_1 j2 q3 theta_4",
        "motor_0 motor_1 dq1 action_0 a1 7",
        "shoulder elbow wrist",
        "shoulder_pan shoulder_lift elbow_flex",
        "qx qy qz qw",
        "delta_qx delta_qy delta_qw",
        "delta_rot_0 delta_rot_1 rot6d_0",
        "delta_x_vel delta_abs_x joint_vel_pos",
        "axis_angle1 axis_angle2 axis_angle3",
        "delta_rot_0 delta_rot_1 delta_rot_2 delta_rot_3 delta_rot_4 delta_rot_5",
        "delta_force_x joint_1_torque_delta wrench.vel",
        "joint_torque steering throttle theta yaw",
        "delta_foo foo",
    ],
)
def test_names_that_do_not_tell(names: str) -> None:
    assert [name for name, each in zip(names.split(), read_names(names.split()), strict=True) if None not in each] == []


def test_an_angle_that_turns_a_wrist_is_a_joint_unless_the_wrist_is_the_hand() -> None:
    turns = ["wrist_delta_roll", "wrist_delta_pitch", "wrist_delta_yaw"]
    assert {each.kind for each in read_names(turns)} == {"joint"}
    hand = read_names(["wrist_delta_x", "wrist_delta_y", "wrist_delta_z", *turns])
    assert [each.kind for each in hand] == ["translation"] * 3 + ["rotation"] * 3


def test_kinds_are_told_where_only_modes_are_asked_for() -> None:
    names = ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper"]
    assert [each.kind for each in read_names(names)] == ["translation"] * 3 + ["rotation"] * 3 + ["gripper"]


def test_an_angular_velocity_is_one_beside_a_linear_one() -> None:
    assert read_names(["vx", "vy", "wz"])[2] == Told("angle", "velocity")
    assert {each.mode for each in read_names(["vx", "vy", "vz", "wx", "wy", "wz"])} == {"velocity"}
    assert read_names(["wz"]) == [Told("angle", None)]

"""Words, axes and vectors in the names of dimensions."""

import pytest

from rslwm.dimensions import axis, stem, vectors, words


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("left.delta_x", ["left", "delta", "x"]),
        ("leftDeltaX", ["left", "delta", "x"]),
        ("dx", ["delta", "x"]),
        ("Δyaw", ["delta", "yaw"]),
        ("drx", ["delta", "rot", "x"]),
        ("qw", ["quat", "w"]),
        ("base.vtheta", ["base", "vel", "theta"]),
        ("joint1.pos", ["joint", "1", "pos"]),
        ("delta roll (rad)", ["delta", "roll", "rad"]),
        ("drive", ["drive"]),
    ],
)
def test_names_are_split_into_words(name: str, expected: list[str]) -> None:
    assert words(name) == expected


def test_components_share_what_is_left_without_their_axis() -> None:
    assert {stem(f"tcp_delta_r{letter}") for letter in "xyz"} == {("tcp", "delta", "rot")}
    assert [axis(name) for name in ("roll", "ry", "delta_z", "qw", "gripper")] == [0, 1, 2, 3, None]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ("roll pitch yaw", [[0, 1, 2]]),
        ("yaw pitch roll", [[2, 1, 0]]),
        ("l_rx r_rx l_ry r_ry l_rz r_rz", [[0, 2, 4], [1, 3, 5]]),
        ("a_x b_y c_z", [[0, 1, 2]]),
        ("a0 a1 a2 b0 b1 b2", [[0, 1, 2], [3, 4, 5]]),
        ("", []),
    ],
)
def test_vectors_are_put_together_by_name_and_else_by_place(names: str, groups: list[list[int]]) -> None:
    assert vectors(names.split(), 3) == groups


@pytest.mark.parametrize(("names", "size"), [("yaw", 3), ("l_yaw m_yaw r_yaw", 3), ("q0 q1 q2 q3", 4), ("qx qy qz", 4)])
def test_what_is_no_whole_vector_is_refused(names: str, size: int) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        vectors(names.split(), size)


def test_a_quaternion_is_ordered_by_its_names() -> None:
    assert vectors(["qw", "qx", "qy", "qz"], 4) == [[1, 2, 3, 0]]

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rslwm.data.actions import compose, first
from rslwm.types import ActionSpec, DataError, end_effector_spec

SPEC = end_effector_spec(0.05, 0.25)


def actions(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return SPEC.denormalise(rng.uniform(-1, 1, (*shape, 7)))


def test_translations_add_and_the_last_gripper_counts() -> None:
    a = actions(5, 3)
    composed = compose(a, SPEC)
    np.testing.assert_allclose(composed[:, :3], a[..., :3].sum(1), atol=1e-6)
    np.testing.assert_array_equal(composed[:, 6], a[:, -1, 6])


def test_rotations_about_one_axis_add() -> None:
    a = np.zeros((1, 4, 7), np.float32)
    a[0, :, 5] = [0.1, 0.2, -0.05, 0.15]
    np.testing.assert_allclose(compose(a, SPEC)[0, 3:6], [0, 0, 0.4], atol=1e-6)


def test_rotations_compose_extrinsically() -> None:
    a = np.zeros((2, 7), np.float32)
    a[0, 3], a[1, 5] = np.pi / 2, np.pi / 2
    turn = Rotation.from_rotvec(compose(a, SPEC)[3:6])
    # First about x, then about the base's z: y goes to z and stays there; z goes to -y and then to x.
    np.testing.assert_allclose(turn.apply([0, 1, 0]), [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(turn.apply([0, 0, 1]), [1, 0, 0], atol=1e-6)


def test_composition_is_associative_over_batches() -> None:
    a = actions(4, 2, 6)
    halves = np.stack([compose(a[..., :3, :], SPEC), compose(a[..., 3:, :], SPEC)], axis=-2)
    np.testing.assert_allclose(compose(halves, SPEC), compose(a, SPEC), atol=1e-5)


def test_one_action_composes_to_itself() -> None:
    a = actions(4, 1)
    np.testing.assert_array_equal(compose(a, SPEC), a[:, 0])


def test_composed_actions_stay_inside_the_composed_bounds() -> None:
    a = actions(500, 4)
    normalised = SPEC.composed(4).normalise(compose(a, SPEC))
    assert np.abs(normalised).max() <= 1 + 1e-5


def test_of_absolute_actions_the_last_counts() -> None:
    spec = ActionSpec(("j1", "j2"), ("other", "other"), ("rad", "rad"), (-1, -1), (1, 1), mode="absolute")
    a = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(compose(a, spec), [4, 5])


def test_first_takes_the_first() -> None:
    a = actions(4, 3)
    np.testing.assert_array_equal(first(a, SPEC), a[:, 0])


def spec_of(
    kinds: list[str], mode: str | tuple[str, ...], names: list[str] | None = None, unit: str = "rad"
) -> ActionSpec:
    n = len(kinds)
    return ActionSpec(
        tuple(names or [f"d{i}" for i in range(n)]), tuple(kinds), (unit,) * n, (-1,) * n, (1,) * n, mode=mode
    )


def steps(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.3, 0.3, shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["joint", "angle", "translation"])
def test_deltas_of_what_is_one_number_add_up(kind: str) -> None:
    a = steps(5, 3, 2)
    np.testing.assert_allclose(compose(a, spec_of([kind] * 2, "delta")), a.sum(1), atol=1e-6)


@pytest.mark.parametrize("kind", ["joint", "angle", "translation", "rotation", "gripper"])
def test_the_path_of_an_averaged_velocity_is_that_of_the_steps(kind: str) -> None:
    a, seconds = steps(5, 4, 1), 0.1
    velocity = compose(a, spec_of([kind], ("velocity",)))
    np.testing.assert_allclose(velocity * 4 * seconds, (a * seconds).sum(1), atol=1e-6)


def test_every_dimension_has_its_own_mode() -> None:
    spec = spec_of(["translation", "joint", "joint", "gripper"], ("velocity", "absolute", "delta", "absolute"))
    a = np.array([[0.1, 1, 0.2, 0], [0.3, 2, 0.3, 1]], np.float32)
    np.testing.assert_allclose(compose(a, spec), [0.2, 2, 0.5, 1], atol=1e-6)


def test_a_gripper_named_a_delta_adds() -> None:
    a = np.array([[0.1], [0.3]], np.float32)
    np.testing.assert_allclose(compose(a, spec_of(["gripper"], ("delta",))), [0.4], atol=1e-6)


@pytest.mark.parametrize("interleaved", [False, True])
def test_two_arms_turn_each_for_itself(interleaved: bool) -> None:
    names = [f"{side}_delta_{axis}" for side in ("left", "right") for axis in ("roll", "pitch", "yaw")]
    order = [0, 3, 1, 4, 2, 5] if interleaved else [*range(6)]
    a = steps(7, 3, 6)
    spec = spec_of(["rotation"] * 6, "delta", [names[i] for i in order])
    composed = compose(a[..., order], spec)[..., np.argsort(order)]
    one = spec_of(["rotation"] * 3, "delta", ["roll", "pitch", "yaw"])
    np.testing.assert_allclose(
        composed, np.concatenate([compose(a[..., :3], one), compose(a[..., 3:], one)], -1), atol=1e-6
    )


def test_axes_are_found_by_name_whatever_their_order() -> None:
    a = steps(7, 3, 3)
    forwards = compose(a, spec_of(["rotation"] * 3, "delta", ["rx", "ry", "rz"]))
    backwards = compose(a[..., ::-1], spec_of(["rotation"] * 3, "delta", ["yaw", "pitch", "roll"]))
    np.testing.assert_allclose(backwards, forwards[..., ::-1], atol=1e-6)


def test_degrees_turn_as_the_same_radians() -> None:
    a = steps(7, 3, 3)
    names = ["rx", "ry", "rz"]
    degrees = compose(np.rad2deg(a), spec_of(["rotation"] * 3, "delta", names, "deg"))
    np.testing.assert_allclose(degrees, np.rad2deg(compose(a, spec_of(["rotation"] * 3, "delta", names))), atol=1e-4)


def test_rotations_of_an_unknown_unit_add() -> None:
    a = steps(7, 3, 3)
    np.testing.assert_allclose(compose(a, spec_of(["rotation"] * 3, "delta", unit="as recorded")), a.sum(1), atol=1e-6)


@pytest.mark.parametrize("order", ["xyzw", "wxyz"])
def test_delta_quaternions_compose_as_their_rotations_do(order: str) -> None:
    turns = [
        Rotation.from_rotvec(steps(6, 3)),
        Rotation.from_rotvec(-2 * steps(6, 3)),
        Rotation.from_rotvec(steps(6, 3)[::-1]),
    ]
    total = turns[2] * turns[1] * turns[0]
    places = ["xyzw".index(letter) for letter in order]
    a = np.stack([turn.as_quat() for turn in turns], axis=1)[..., places].astype(np.float32)
    a[:, 1] *= -1  # the same rotation
    composed = compose(a, spec_of(["quaternion"] * 4, "delta", [f"delta_q{letter}" for letter in order]))
    np.testing.assert_allclose(composed, total.as_quat(canonical=True)[..., places], atol=1e-6)


def test_of_absolute_quaternions_the_last_counts() -> None:
    a = steps(6, 3, 4)
    composed = compose(a, spec_of(["quaternion"] * 4, "absolute", ["qx", "qy", "qz", "qw"]))
    np.testing.assert_array_equal(composed, a[:, -1])


def test_a_zero_quaternion_is_named() -> None:
    spec = spec_of(["quaternion"] * 4, "delta", ["qx", "qy", "qz", "qw"])
    with pytest.raises(DataError, match=r"\['qx', 'qy', 'qz', 'qw'\] is zero"):
        compose(np.zeros((2, 4), np.float32), spec)


def test_how_a_skip_is_split_changes_nothing_of_any_kind() -> None:
    kinds = (
        ["translation"] * 3
        + ["rotation"] * 3
        + ["angle", "joint", "joint", "translation", "gripper"]
        + ["quaternion"] * 4
    )
    names = [f"delta_{n}" for n in ("x", "y", "z", "roll", "pitch", "yaw", "theta", "j1")] + [
        "j2",
        "base_x.vel",
        "gripper",
    ]
    modes = ("delta",) * 8 + ("absolute", "velocity", "absolute") + ("delta",) * 4
    spec = spec_of(kinds, modes, [*names, "dqx", "dqy", "dqz", "dqw"])
    a = steps(4, 6, len(kinds))
    a[..., -4:] = Rotation.from_rotvec(steps(24, 3)).as_quat().reshape(4, 6, 4)
    halves = np.stack([compose(a[..., :3, :], spec), compose(a[..., 3:, :], spec)], axis=-2)
    np.testing.assert_allclose(compose(halves, spec), compose(a, spec), atol=1e-5)


def test_composed_quaternions_stay_inside_the_composed_bounds() -> None:
    low, high = (-0.1, -0.1, -0.1, np.cos(0.1 * np.sqrt(3))), (0.1, 0.1, 0.1, 1.0)
    spec = ActionSpec(("qx", "qy", "qz", "qw"), ("quaternion",) * 4, ("1",) * 4, low, high)
    small = np.random.default_rng(0).uniform(-0.19, 0.19, (500 * 4, 3))
    a = Rotation.from_rotvec(small).as_quat().reshape(500, 4, 4).astype(np.float32)
    assert np.abs(spec.normalise(a)).max() <= 1
    assert np.abs(spec.composed(4).normalise(compose(a, spec))).max() <= 1 + 1e-5

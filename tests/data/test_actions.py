import numpy as np
from scipy.spatial.transform import Rotation

from rslwm.data.actions import compose, first
from rslwm.types import ActionSpec, end_effector_spec

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

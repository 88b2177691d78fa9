import json

import numpy as np
import pytest

from rslwm.data.conventions import derive_spec, kind_of, stored_spec
from rslwm.types import DataError, end_effector_spec


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x", "translation"),
        ("delta_z", "translation"),
        ("ee_y", "translation"),
        ("yaw", "rotation"),
        ("delta_roll", "rotation"),
        ("rx", "rotation"),
        ("left_gripper", "gripper"),
        ("gripper.pos", "gripper"),
        ("main_shoulder_pan", "other"),
        ("joint_1", "other"),
    ],
)
def test_names_tell_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_named_deltas_get_symmetric_bounds_per_kind() -> None:
    names = ["delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper"]
    actions = np.array([[0.01, -0.04, 0, 0.1, 0, 0, 0], [0.02, 0, 0, 0, 0, 0.2, 1]], np.float32)
    spec = derive_spec(names, actions, 5.0, "here")
    assert spec.mode == "delta"
    np.testing.assert_allclose(spec.high, [0.04] * 3 + [0.2] * 3 + [1])
    np.testing.assert_allclose(spec.normalise(np.zeros(7))[:6], 0, atol=1e-6)


def test_a_dimension_that_never_moves_gets_bounds() -> None:
    spec = derive_spec(["elbow"], np.full((3, 1), 0.5, np.float32), 5.0, "here")
    assert spec.normalise(np.array([0.5])) == pytest.approx(0)


@pytest.mark.parametrize("names", [["x", "y", "z"], ["action_0", "action_1", "action_2"], ["delta_x", "y", "z"]])
def test_names_that_do_not_tell_are_refused(names: list[str]) -> None:
    with pytest.raises(DataError, match=r"here: the names of the action dimensions.*\"action_spec\""):
        derive_spec(names, np.eye(3, dtype=np.float32), 5.0, "here")


def test_the_suggested_key_is_a_valid_spec() -> None:
    with pytest.raises(DataError) as error:
        derive_spec(["x", "y", "z"], np.eye(3, dtype=np.float32), 5.0, "here")
    suggestion = json.loads(str(error.value).split("isn't so): ")[1])
    assert stored_spec(suggestion["rslwm"]["action_spec"], "here").names == ("x", "y", "z")


def test_steps_that_are_not_numbers_take_no_part_in_the_bounds() -> None:
    actions = np.array([[0.1], [np.nan], [0.4], [np.inf]], np.float32)
    spec = derive_spec(["elbow"], actions, 5.0, "here")
    np.testing.assert_allclose([spec.low, spec.high], [[0.1], [0.4]])
    with pytest.raises(DataError, match="here: no recorded action is finite"):
        derive_spec(["elbow"], actions[1:2], 5.0, "here")


def test_stored_specs_are_read_strictly() -> None:
    values = end_effector_spec(0.05, 0.25).to_dict()
    assert stored_spec(values, "here") == end_effector_spec(0.05, 0.25)
    with pytest.raises(DataError, match=r"here: action_spec is not valid.*'colour'"):
        stored_spec({**values, "colour": "red"}, "here")
    with pytest.raises(DataError, match="mode has 'relative'"):
        stored_spec({**values, "mode": "relative"}, "here")
    with pytest.raises(DataError, match="is not valid"):
        stored_spec(None, "here")

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from rslwm.data.conventions import ActionsUntold, check_bounds, derive_spec, read_spec, stored_spec
from rslwm.types import DataError, end_effector_spec


def test_named_deltas_get_symmetric_bounds_per_kind() -> None:
    names = ["delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper"]
    actions = np.array([[0.01, -0.04, 0, 0.1, 0, 0, 0], [0.02, 0, 0, 0, 0, 0.2, 1]], np.float32)
    spec = derive_spec(names, actions, 5.0, "here")
    assert spec.mode == "delta"
    np.testing.assert_allclose(spec.high, [0.04] * 3 + [0.2] * 3 + [1])
    np.testing.assert_allclose(spec.normalise(np.zeros(7))[:6], 0, atol=1e-6)


def test_a_dimension_that_never_moves_gets_bounds() -> None:
    spec = derive_spec(["elbow.pos"], np.full((3, 1), 0.5, np.float32), 5.0, "here")
    assert spec.normalise(np.array([0.5])) == pytest.approx(0)


def test_metres_that_no_arm_goes_in_a_step_are_a_unit_as_recorded() -> None:
    names = ["delta_x", "delta_roll", "delta_pitch", "delta_yaw"]
    small = derive_spec(names, np.full((3, 4), 0.05, np.float32), 5.0, "here")
    large = derive_spec(names, np.full((3, 4), 0.9, np.float32), 5.0, "here")
    assert (small.units, large.units) == (("m", "rad", "rad", "rad"), ("as recorded",) * 4)


def test_velocities_beside_joint_targets_have_their_own_mode_and_rest_at_zero() -> None:
    actions = np.array([[0.3, 20, 1, 5], [-0.1, -5, 3, 30]], np.float32)
    spec = derive_spec(["x.vel", "theta.vel", "shoulder.pos", "gripper.pos"], actions, 10.0, "here")
    assert spec.kinds == ("translation", "angle", "joint", "gripper")
    assert spec.mode == ("velocity", "velocity", "absolute", "absolute")
    np.testing.assert_allclose([spec.low, spec.high], [[-0.3, -20, 1, 5], [0.3, 20, 3, 30]])


UNTOLD = [
    ["x", "y", "z"],
    ["x", "y", "z", "roll", "pitch", "yaw", "gripper"],
    ["x", "y", "z", "qx", "qy", "qz", "qw"],
    ["action_0", "action_1", "action_2"],
    ["motor_0", "motor_1"],
    ["joint_0", "joint_1", "gripper"],
    ["delta_x", "y", "z"],
    ["a: b", "1", "yes", "Größe #1", "[red]", '"', "null"],
]


@pytest.mark.parametrize("names", UNTOLD)
def test_names_that_do_not_tell_are_asked_about_with_a_spec_to_save(names: list[str], tmp_path: Path) -> None:
    actions = np.random.default_rng(0).normal(0, [1e-6, *[3e3] * (len(names) - 1)], (9, len(names))).astype(np.float32)
    with pytest.raises(ActionsUntold) as error:
        derive_spec(names, actions, 5.0, "here")
    printed = str(error.value)
    file = tmp_path / "rslwm.yaml"
    file.write_text(printed[printed.index("action_spec:\n") :])
    spec = read_spec(file)
    assert (spec.names, spec.hz) == (tuple(names), 5.0)
    assert check_bounds(spec, actions, "here") is None
    np.testing.assert_array_less(np.abs(spec.normalise(actions)), 1 + 1e-5)


def test_only_what_is_guessed_is_marked() -> None:
    with pytest.raises(ActionsUntold) as error:
        derive_spec(["delta_x", "y", "foo", "gripper"], np.eye(4, dtype=np.float32), 5.0, "here")
    marked = [line for line in error.value.draft.splitlines() if "CORRECT" in line]
    assert [line.split(";")[0] for line in marked] == [
        "  # CORRECT, guessed for foo",
        "  # CORRECT, guessed for y, foo",
    ]
    assert (
        "don't say what they are: foo may be anything, y may be deltas, velocities or absolute" in error.value.question
    )
    assert yaml.safe_load(error.value.draft)["action_spec"]["mode"] == ["delta", "delta", "absolute", "absolute"]


def test_the_place_of_the_answer_is_named_and_a_lerobot_file_has_one_more() -> None:
    for where, inside in (("d/features.json", False), ("d/meta/info.json", True)):
        with pytest.raises(ActionsUntold, match=rf"^{where}: .*rslwm\.yaml.*--data\.action-spec FILE") as error:
            derive_spec(["x"], np.eye(1, dtype=np.float32), 5.0, where)
        assert ("{'action_spec': ...}" in error.value.question) == inside


def test_the_question_survives_the_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(ActionsUntold("which?", "action_spec:")))
    assert (str(error), error.draft) == ("which?\n\naction_spec:", "action_spec:")


def test_steps_that_are_not_numbers_take_no_part_in_the_bounds() -> None:
    actions = np.array([[0.1], [np.nan], [0.4], [np.inf]], np.float32)
    spec = derive_spec(["elbow.pos"], actions, 5.0, "here")
    np.testing.assert_allclose([spec.low, spec.high], [[0.1], [0.4]])
    with pytest.raises(DataError, match="here: no recorded action is finite"):
        derive_spec(["elbow.pos"], actions[1:2], 5.0, "here")


def test_stored_specs_are_read_strictly() -> None:
    values = end_effector_spec(0.05, 0.25).to_dict()
    assert stored_spec(values, "here") == end_effector_spec(0.05, 0.25)
    with pytest.raises(DataError, match=r"here: action_spec: unknown field 'colour'; known: frame"):
        stored_spec({**values, "colour": "red"}, "here")
    with pytest.raises(DataError, match=r"action_spec\.mode: 'relative' is not one of 'delta'"):
        stored_spec({**values, "mode": "relative"}, "here")
    others = {**values, "kinds": ["other"] * 7}
    with pytest.raises(DataError, match=r"action_spec\.mode: 'deltas' is not one of"):
        stored_spec({**others, "mode": "deltas"}, "here")
    for hz in (0, -5.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"action_spec\.hz is"):
            stored_spec({**values, "hz": hz}, "here")
    with pytest.raises(DataError, match="is not valid"):
        stored_spec(None, "here")
    with pytest.raises(DataError, match=r"action_spec\.low: expected a list, got 3"):
        stored_spec({**values, "low": 3}, "here")
    with pytest.raises(
        DataError, match=r"action_spec\.high\[0\]: expected float, got '1e-3' \(YAML reads 1e-3 as text"
    ):
        stored_spec({**values, "high": ["1e-3"] * 7}, "here")
    with pytest.raises(DataError, match=r"not valid: ActionSpec\.mode has 2 entries for 7"):
        stored_spec({**values, "mode": ["delta", "absolute"]}, "here")
    with pytest.raises(DataError, match=r"kind 'rotation' are 2 dimensions.*'angle'"):
        stored_spec({**values, "kinds": ["translation"] * 4 + ["rotation"] * 2 + ["gripper"]}, "here")


@pytest.mark.parametrize("name", ["spec.yaml", "spec.yml", "spec.json", "rslwm.txt"])
@pytest.mark.parametrize("keys", [[], ["action_spec"], ["action_spec", "rslwm"]])
def test_a_spec_is_read_from_yaml_and_json_at_the_top_or_under_its_key(
    name: str, keys: list[str], tmp_path: Path
) -> None:
    spec = end_effector_spec(0.05, 0.25)
    values: dict = spec.to_dict()
    for key in keys:
        values = {key: values}
    (tmp_path / name).write_text(json.dumps(values) if name.endswith("json") else yaml.safe_dump(values))
    assert read_spec(tmp_path / name) == spec


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"names: [x, y", "can't be read as YAML"),
        (b"names: \xff", "can't be read as YAML"),
        (b"", "nothing in place of a mapping"),
        (b"- x", "in place of a mapping"),
        (b"names: [x]", "missing"),
    ],
)
def test_a_file_without_a_spec_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=rf"spec\.yaml.*{message}"):
        read_spec(file)


def test_poses_in_the_place_of_deltas_are_another_convention() -> None:
    spec = end_effector_spec(0.05, 0.25)
    rng = np.random.default_rng(0)
    deltas = spec.denormalise(rng.uniform(-1, 1, (200, 7)))
    outliers = deltas.copy()
    outliers[:80, 0] = 0.4
    poses = deltas.copy()
    poses[:, :3] += [0.3, 0.0, 0.2]
    assert check_bounds(spec, deltas, "here") is None
    assert check_bounds(spec, outliers, "here") is None
    assert re.search(
        r"here: 100% of the steps of 'x' .*most of \['z'\].*the deltas in 'm'", check_bounds(spec, poses, "here") or ""
    )


def test_bounds_of_no_finite_step_say_nothing_and_other_dimensions_all() -> None:
    spec = end_effector_spec(0.05, 0.25)
    assert check_bounds(spec, np.full((3, 7), np.nan, np.float32), "here") is None
    assert "names 7 dimensions, recorded are 6" in (check_bounds(spec, np.zeros((3, 6), np.float32), "here") or "")

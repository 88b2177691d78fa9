"""Actions in parts, of integers, and what they mean: read, or asked for with lines that can be pasted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rslwm.data.config import DataConfig
from rslwm.data.conventions import read_spec
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.parts import dictionary_parts
from rslwm.data.sources.opening import open_source
from rslwm.data.sources.rlds import BRIDGE_SPEC
from rslwm.types import ActionSpec, DataError
from tfds_folder import SPEC, STEPS, Features, example, rlds, robot, tensor, tfds


def imported(folder: Path, tmp_path: Path, **config: Any) -> EpisodeDataset:
    return open_source(DataConfig(uri=f"rlds:{folder}", **config)).open(tmp_path)


def some(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.04, 0.04, (STEPS, *shape)).astype(np.float32)


MOVE, TURN, GRIP = some(3), 2 * some(3), np.abs(some(1)) * 25
PARTS: Features = {
    "steps/action/world_vector": (tensor(3), MOVE),
    "steps/action/rotation_delta": (tensor(3), TURN),
    "steps/action/gripper_closedness_action": (tensor(1), GRIP),
    "steps/action/terminate_episode": (tensor(3, dtype="int32"), [1, 0, 0] * STEPS),
}
PLAIN = ("steps/action",)


def spec_of(names: list[str], kinds: list[str], hz: float = 10) -> ActionSpec:
    n = len(names)
    return ActionSpec(tuple(names), tuple(kinds), ("1",) * n, (-1.0,) * n, (1.0,) * n, hz=hz)  # type: ignore[arg-type]


def test_a_dictionary_is_put_together_as_move_turn_gripper(tmp_path: Path) -> None:
    dataset = imported(robot(tmp_path / "r", PARTS, without=PLAIN), tmp_path)
    np.testing.assert_allclose(dataset.actions(0), np.concatenate([MOVE, TURN, GRIP], axis=1), atol=1e-7)
    notes = json.loads(dataset.info_file.read_text())["rslwm"]["left_out"]
    assert any("terminate_episode_0, terminate_episode_1, terminate_episode_2" in note for note in notes)


def test_the_specs_names_select_and_order(tmp_path: Path) -> None:
    names = ["gripper_closedness_action", "world_vector_z", "world_vector_x"]
    spec = spec_of(names, ["gripper", "translation", "translation"])
    dataset = imported(robot(tmp_path / "r", PARTS, without=PLAIN, spec=spec), tmp_path)
    np.testing.assert_allclose(dataset.actions(0), np.stack([GRIP[:, 0], MOVE[:, 2], MOVE[:, 0]], axis=1), atol=1e-7)


@pytest.mark.parametrize(
    ("sizes", "order"),
    [
        ({"open_gripper": 1, "rotation_delta": 3, "terminate_episode": 1, "world_vector": 3},
         ["world_vector", "rotation_delta", "open_gripper", "terminate_episode"]),
        ({"base_displacement_vector": 2, "base_displacement_vertical_rotation": 1, "gripper_closedness_action": 1,
          "rotation_delta": 3, "terminate_episode": 3, "world_vector": 3},
         ["world_vector", "rotation_delta", "gripper_closedness_action", "base_displacement_vector",
          "base_displacement_vertical_rotation", "terminate_episode"]),
        ({"delta_orient": 3, "delta_position": 3, "gripper": 1}, ["delta_position", "delta_orient", "gripper"]),
        ({"joint_position": 7, "gripper_position": 1}, ["joint_position", "gripper_position"]),
    ],
)  # fmt: skip
def test_the_order_of_parts_follows_what_they_are(sizes: dict[str, int], order: list[str]) -> None:
    assert [part.key for part in dictionary_parts(sizes)] == order


def test_a_part_that_is_no_hand_may_be_left_out_by_the_specs_size(tmp_path: Path) -> None:
    base: Features = {"steps/action/base_displacement_vector": (tensor(2), some(2))}
    dataset = imported(robot(tmp_path / "r", PARTS | base, without=PLAIN), tmp_path)
    np.testing.assert_allclose(dataset.actions(0), np.concatenate([MOVE, TURN, GRIP], axis=1), atol=1e-7)
    assert "base_displacement_vector_0" in dataset.info_file.read_text()


def test_a_spec_in_another_order_than_the_parts_is_an_error(tmp_path: Path) -> None:
    spec = spec_of(["g", *"xyzabc"], ["gripper", *["translation"] * 3, *["rotation"] * 3])
    folder = robot(tmp_path / "r", PARTS, without=PLAIN, spec=spec)
    with pytest.raises(DataError, match="spec's 'g' is a gripper, but 'world_vector_x' stands there"):
        imported(folder, tmp_path)


def test_a_spec_of_another_size_names_what_there_is(tmp_path: Path) -> None:
    spec = spec_of(["x", "y"], ["translation"] * 2)
    with pytest.raises(DataError, match=r"steps/action: float32 \(7\): the action spec has 2 dimensions \(x, y\)"):
        imported(robot(tmp_path / "a", {}, spec=spec), tmp_path)
    with pytest.raises(DataError, match=r"the actions have 7: world_vector_x, .*gripper_closedness_action"):
        imported(robot(tmp_path / "b", PARTS, without=PLAIN, spec=spec), tmp_path)


def test_parts_of_different_length_are_an_error(tmp_path: Path) -> None:
    short: Features = {**PARTS, "steps/action/rotation_delta": (tensor(3), TURN[:-1])}
    with pytest.raises(DataError, match=r"record 0, episode '/raw/0\.h5': the parts of the action differ in length"):
        imported(robot(tmp_path / "r", short, without=PLAIN), tmp_path)


def test_several_features_are_joined_by_the_flag(tmp_path: Path) -> None:
    loose: Features = {"steps/move": (tensor(6), some(6)), "steps/grip": (tensor(), GRIP[:, 0])}
    folder = robot(tmp_path / "r", loose)
    dataset = imported(folder, tmp_path, features=("action=move", "action=grip"))
    np.testing.assert_allclose(dataset.actions(0), np.concatenate([some(6), GRIP], axis=1), atol=1e-7)


def test_another_dictionary_is_taken_by_the_flag(tmp_path: Path) -> None:
    other = {key.replace("/action/", "/action_dict/"): part for key, part in PARTS.items()}
    dataset = imported(robot(tmp_path / "r", other), tmp_path, features=("action=action_dict",))
    np.testing.assert_allclose(dataset.actions(0), np.concatenate([MOVE, TURN, GRIP], axis=1), atol=1e-7)


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool", "uint8"])
def test_integers_are_read_as_numbers(tmp_path: Path, dtype: str) -> None:
    values = [n % 2 for n in range(7 * STEPS)]
    dataset = imported(robot(tmp_path / "r", {"steps/action": (tensor(7, dtype=dtype), values)}), tmp_path)
    np.testing.assert_array_equal(dataset.actions(0).ravel(), values)


@pytest.mark.parametrize("feature", [tensor(dtype="int64"), tensor(1), {"classLabel": {"numClasses": "4"}}])
def test_a_scalar_is_one_dimension(tmp_path: Path, feature: dict[str, Any]) -> None:
    whole = feature.get("tensor", {}).get("dtype") != "float32"
    values: Any = [n % 4 for n in range(STEPS)] if whole else np.arange(STEPS, dtype=np.float32)
    spec = spec_of(["move"], ["other"])
    dataset = imported(robot(tmp_path / "r", {"steps/action": (feature, values)}, spec=spec), tmp_path)
    np.testing.assert_array_equal(dataset.actions(0)[:, 0], np.asarray(values))


def asked(folder: Path, **config: Any) -> str:
    with pytest.raises(DataError, match="doesn't say what its actions mean") as error:
        imported(folder, folder.parent, **config)
    return str(error.value)


def pasted(message: str) -> str:
    return "action_spec:" + message.partition("action_spec:")[2]


@pytest.mark.parametrize(
    ("changed", "what", "names"),
    [
        ({}, "steps/action: float32 (7)", ["delta_x", "gripper"]),
        ({"steps/action": (tensor(7), 3 * some(7) + 0.5)}, "steps/action: float32 (7)", ["action_0", "action_6"]),
        ({"steps/action": (tensor(4, dtype="int32"), [1, 0, 2, 0] * STEPS)}, "steps/action: int32 (4)", ["action_3"]),
        ({"steps/action": (tensor(dtype="int64"), [0, 1] * 3)}, "steps/action: int64 scalar", ["action"]),
        ({"steps/action": (tensor(2, 7), some(2, 7))}, "steps/action: float32 (2, 7)", ["action_13"]),
        (PARTS, "steps/action/world_vector: float32 (3)", ["world_vector_x", "gripper_closedness_action"]),
    ],
)  # fmt: skip
def test_what_is_not_said_is_asked_for_with_a_draft_that_works(
    tmp_path: Path, changed: Features, what: str, names: list[str]
) -> None:
    without = PLAIN if "steps/action" not in changed and changed else ()
    folder = robot(tmp_path / "r", changed, without=without, spec=None)
    message = asked(folder)
    assert what in message
    assert "--data.action-spec" in message
    assert "CORRECT, nothing gives the rate" in message
    (folder / "rslwm.yaml").write_text(pasted(message))
    dataset = imported(folder, tmp_path)
    assert {*names} <= {*dataset.spec.names}
    assert np.abs(dataset.spec.normalise(dataset.actions(0))).max() <= 1.01


def test_a_draft_knows_what_the_names_of_parts_tell(tmp_path: Path) -> None:
    draft = yaml.safe_load(pasted(asked(robot(tmp_path / "r", PARTS, without=PLAIN, spec=None))))["action_spec"]
    assert draft["kinds"] == ["translation"] * 3 + ["rotation"] * 3 + ["gripper"]
    assert draft["mode"] == ["delta"] * 6 + ["absolute"]


def test_a_file_given_counts_more_than_the_one_beside_the_data(tmp_path: Path) -> None:
    folder = robot(tmp_path / "r", {})
    other = spec_of([*"abcdefg"], ["other"] * 7, hz=3)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({"action_spec": other.to_dict()}))
    given = imported(folder, tmp_path, action_spec=str(tmp_path / "spec.yaml"))
    assert (given.spec, imported(folder, tmp_path).spec) == (other, SPEC)
    assert given.root != imported(folder, tmp_path).root


@pytest.mark.parametrize("name", ["rslwm.yaml", "rslwm.yml", "rslwm.json"])
@pytest.mark.parametrize("under", [True, False])
def test_a_spec_beside_the_data_may_be_yaml_or_json(tmp_path: Path, name: str, under: bool) -> None:
    folder = robot(tmp_path / "r", {}, spec=None)
    content = {"action_spec": SPEC.to_dict()} if under else SPEC.to_dict()
    write = json.dumps if name.endswith("json") else yaml.safe_dump
    (folder / name).write_text(write(content))
    assert imported(folder, tmp_path).spec == SPEC


def test_small_bounds_in_json_stay_numbers(tmp_path: Path) -> None:
    spec = ActionSpec(("a",), ("other",), ("1",), (-1e-05,), (1e-05,))
    (tmp_path / "s.json").write_text(json.dumps(spec.to_dict()))
    assert read_spec(tmp_path / "s.json") == spec


@pytest.mark.parametrize("content", ["[", "- 1", "action_spec: {names: [a]}", "action_spec: 3", ""])
def test_a_broken_spec_names_its_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(DataError, match=r"s\.yaml"):
        imported(robot(tmp_path / "r", {}), tmp_path, action_spec=str(tmp_path / "s.yaml"))
    with pytest.raises(DataError, match=r"absent\.yaml"):
        imported(tmp_path / "r", tmp_path, action_spec=str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize("name", ["bridge_like", "bridge", "bridge_orig_absolute", "bridge_dataset_2"])
def test_a_name_that_begins_with_bridge_is_not_enough(tmp_path: Path, name: str) -> None:
    folder = robot(tmp_path / "r", {}, spec=None, name=name)
    message = asked(folder)
    assert "Its name alone doesn't make it BridgeData V2" in message
    assert "it has no observation 'image_0'" in message


def test_bridges_own_name_with_other_actions_is_another_convention(tmp_path: Path) -> None:
    poses = example(0) | {"steps/action": np.tile(np.array([0.3, 0, 0.15, 0, 1.5, 0, 1], np.float32), (STEPS, 1))}
    message = asked(tfds(tmp_path / "poses", [[poses]]))
    assert "the actions follow another convention: " in message
    assert "100% of the steps of 'x' lie outside its bounds [-0.05, 0.05]" in message
    joints = robot(tmp_path / "j", {"steps/observation/state": (tensor(8), np.ones(STEPS * 8, np.float32))}, spec=None,
                   name="bridge_dataset")  # fmt: skip
    assert "steps/observation/state is float32 (8,)" in asked(joints)


def test_bridge_itself_is_known(tmp_path: Path) -> None:
    folder = rlds(tfds(tmp_path / "b", [[example(0), example(1)]], name="bridge_orig"))
    assert folder.spec == BRIDGE_SPEC
    assert folder.state_names["state"] == [*BRIDGE_SPEC.names]


def test_a_spec_that_most_values_leave_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    imported(robot(tmp_path / "r", {"steps/action": (tensor(7), 10 + some(7))}), tmp_path)
    assert "100% of the steps of 'x' lie outside its bounds" in caplog.text.replace("'y'", "'x'")

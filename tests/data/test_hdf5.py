import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from recordings import rendered
from rslwm.config import DataConfig
from rslwm.data.dataset import EpisodeDataset, build_dataset
from rslwm.data.hdf5 import Hdf5Files
from rslwm.types import ActionSpec, DataError

h5py = pytest.importorskip("h5py", reason="h5py, of the extra hdf5, is not installed")

STEPS = 6
OSC: dict[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "control_delta": True,
    "impedance_mode": "fixed",
}


def env_args(controller: Any = None, **kwargs: Any) -> str:
    arguments = {"control_freq": 20, "robots": ["Panda"], "controller_configs": controller or OSC, **kwargs}
    return json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": arguments})


def commands(number: int, dims: int = 7) -> np.ndarray:
    actions = np.random.default_rng(number).uniform(-1, 1, (STEPS, dims))
    actions[:, -1] = np.sign(actions[:, -1])
    return actions


def demo(number: int, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "actions": commands(number),
        "rewards": np.array([0.0] * (STEPS - 1) + [float(number % 2)]),
        "dones": np.zeros(STEPS, np.int64),
        "obs/agentview_image": rendered(STEPS, 16, number),
        "obs/robot0_eef_pos": np.random.default_rng(number).normal(size=(STEPS, 3)),
        **more,
    }


def written(path: Path, demos: dict[str, dict[str, np.ndarray]], attributes: dict[str, Any] | None = None) -> Path:
    """A file as robomimic writes it."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name, value in ({"env_args": env_args()} if attributes is None else attributes).items():
            data.attrs[name] = value
        for name, datasets in demos.items():
            group = data.create_group(name)
            group.attrs["num_samples"] = STEPS
            for key, values in datasets.items():
                group[key] = values
    return path


def opened(path: Path, tmp_path: Path, **config: Any) -> EpisodeDataset:
    return build_dataset(DataConfig(uri=f"hdf5:{path}", **config), tmp_path)


def left_out(dataset: EpisodeDataset) -> list[str]:
    found: list[str] = json.loads(dataset.info_file.read_text())["rslwm"].get("left_out", [])
    return found


def test_demonstrations_come_back_in_metres_and_radians(tmp_path: Path) -> None:
    names = ["demo_0", "demo_2", "demo_10"]
    dataset = opened(written(tmp_path / "lift.hdf5", {n: demo(i) for i, n in enumerate(names)}), tmp_path)
    assert dataset.ids == [f"lift:{name}" for name in names]
    assert dataset.cameras == ["agentview_image"]
    assert dataset.success == [False, True, False]
    for i in range(3):
        recorded = commands(i)
        scale = [0.05] * 3 + [0.5] * 3
        np.testing.assert_allclose(dataset.actions(i)[:, :6], recorded[:, :6] * scale, atol=1e-6)
        np.testing.assert_array_equal(dataset.actions(i)[:, 6], recorded[:, 6] > 0)
        np.testing.assert_allclose(dataset.states(i)["robot0_eef_pos"], demo(i)["obs/robot0_eef_pos"], atol=1e-6)
        error = (dataset.frames(i, "agentview_image").astype(float) - rendered(STEPS, 16, i)) ** 2
        assert 10 * np.log10(255**2 / error.mean()) > 30


def test_the_spec_is_the_controllers(tmp_path: Path) -> None:
    spec = Hdf5Files(written(tmp_path / "lift.hdf5", {"demo_0": demo(0)})).spec
    assert spec.names == ("delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz", "gripper")
    assert (spec.mode, spec.frame, spec.hz, spec.gripper) == ("delta", "base", 20.0, "0 is open, 1 is closed")
    assert spec.high == (0.05, 0.05, 0.05, 0.5, 0.5, 0.5, 1.0)


def test_commands_beyond_the_input_are_clipped_as_the_controller_does(tmp_path: Path) -> None:
    wild = demo(0, actions=3 * commands(0))
    source = Hdf5Files(written(tmp_path / "lift.hdf5", {"demo_0": wild}))
    actions = next(source.episodes()).actions
    assert np.abs(source.spec.normalise(actions)).max() == pytest.approx(1)


def test_asymmetric_ranges_are_mapped_end_to_end(tmp_path: Path) -> None:
    osc = {**OSC, "input_min": 0, "input_max": 2, "output_min": -0.1, "output_max": 0.3}
    recorded = np.tile(np.array([0.0, 1, 2, 0, 1, 2, -1]), (STEPS, 1))
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0, actions=recorded)}, {"env_args": env_args(osc)})
    actions = next(Hdf5Files(path).episodes()).actions
    np.testing.assert_allclose(actions[0], [-0.1, 0.1, 0.3, -0.1, 0.1, 0.3, 0], atol=1e-7)


@pytest.mark.parametrize("absolute", [{"control_delta": False}, {"control_delta": None, "input_type": "absolute"}])
def test_absolute_poses_are_taken_as_they_are(tmp_path: Path, absolute: dict[str, Any]) -> None:
    osc = {key: value for key, value in {**OSC, **absolute}.items() if value is not None}
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)}, {"env_args": env_args(osc)})
    source = Hdf5Files(path)
    assert source.spec.mode == "absolute"
    assert source.spec.names[:3] == ("x", "y", "z")
    np.testing.assert_allclose(next(source.episodes()).actions[:, :6], commands(0)[:, :6], atol=1e-6)
    assert np.abs(source.spec.normalise(next(source.episodes()).actions)).max() <= 1 + 1e-5


def test_a_body_of_parts_is_read(tmp_path: Path) -> None:
    part = {**OSC, "input_type": "delta", "input_ref_frame": "world", "gripper": {"type": "GRIP"}}
    del part["control_delta"]
    composite = {"type": "BASIC", "body_parts": {"right": part}}
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)}, {"env_args": env_args(composite)})
    spec = Hdf5Files(path).spec
    assert (spec.dims, spec.frame, spec.mode) == (7, "world", "delta")


def test_two_arms_have_names_of_their_own(tmp_path: Path) -> None:
    two = demo(0, actions=commands(0, 14))
    path = written(tmp_path / "a.hdf5", {"demo_0": two}, {"env_args": env_args(robots=["Panda", "Panda"])})
    spec = Hdf5Files(path).spec
    assert len(set(spec.names)) == spec.dims == 14
    assert spec.names[0] == "robot0_delta_x"
    assert spec.names[7] == "robot1_delta_x"


def test_positions_alone_have_three_dimensions_and_a_gripper(tmp_path: Path) -> None:
    osc = {**OSC, "type": "OSC_POSITION"}
    four = demo(0, actions=commands(0, 4))
    path = written(tmp_path / "a.hdf5", {"demo_0": four}, {"env_args": env_args(osc)})
    assert Hdf5Files(path).spec.kinds == ("translation",) * 3 + ("gripper",)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "env_args has no"),
        ({"env_args": env_args({**OSC, "type": "JOINT_VELOCITY"})}, "the controller is 'JOINT_VELOCITY'"),
        ({"env_args": env_args({**OSC, "impedance_mode": "variable"})}, "impedance_mode 'variable'"),
        ({"env_args": env_args({**OSC, "type": "OSC_POSITION"})}, "take 4 dimensions"),
        ({"env_args": json.dumps({"env_name": "halfcheetah", "type": 2, "env_kwargs": {}})}, "env_args has no"),
        ({"env_args": env_args({"type": "X", "body_parts": {"base": OSC, "right": OSC}})}, "something else than arms"),
    ],
)
def test_what_is_not_known_is_asked_for_with_lines_to_paste(
    tmp_path: Path, attributes: dict[str, Any], reason: str
) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)}, attributes)
    with pytest.raises(DataError, match="doesn't say what its actions mean") as error:
        _ = Hdf5Files(path).spec
    assert reason in str(error.value)
    (tmp_path / "rslwm.yaml").write_text("action_spec:" + str(error.value).partition("action_spec:")[2])
    dataset = opened(path, tmp_path)
    np.testing.assert_allclose(dataset.actions(0), commands(0), atol=1e-6)


def test_a_spec_given_takes_the_numbers_as_recorded(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)})
    spec = ActionSpec(tuple("abcdefg"), ("other",) * 7, ("1",) * 7, (-1.0,) * 7, (1.0,) * 7, mode="absolute", hz=4)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec.to_dict()))
    dataset = opened(path, tmp_path, action_spec=str(tmp_path / "spec.yaml"))
    assert dataset.spec == spec
    np.testing.assert_allclose(dataset.actions(0), commands(0), atol=1e-6)


def test_other_names_are_mapped(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)})
    dataset = opened(
        path, tmp_path, features=("observation.images.front=agentview_image", "observation.state=robot0_eef_pos")
    )
    assert dataset.cameras == ["front"]
    assert [*dataset.states(0)] == ["state"]


def test_another_action_than_the_controllers_is_asked_about(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0, actions_abs=commands(1))})
    with pytest.raises(DataError, match="env_args tells of 'actions' alone"):
        opened(path, tmp_path, features=("action=actions_abs",))
    assert any("actions_abs" in note for note in left_out(opened(path, tmp_path)))


def test_depth_is_left_out_and_said(tmp_path: Path) -> None:
    depth = {"obs/agentview_depth": np.ones((STEPS, 16, 16, 1), np.float32)}
    dataset = opened(written(tmp_path / "a.hdf5", {"demo_0": demo(0, **depth)}), tmp_path)
    assert dataset.cameras == ["agentview_image"]
    assert any("obs/agentview_depth" in note and "depth" in note for note in left_out(dataset))


def test_states_of_any_shape_are_kept(tmp_path: Path) -> None:
    more = {
        "obs/pose": np.ones((STEPS, 4, 4)),
        "obs/contact": np.ones(STEPS, np.int64),
        "obs/flag": np.ones((STEPS, 2), bool),
    }
    dataset = opened(written(tmp_path / "a.hdf5", {"demo_0": demo(0, **more)}), tmp_path)
    assert {name: len(names) for name, names in dataset.state_names.items()} == {
        "contact": 1, "flag": 2, "pose": 16, "robot0_eef_pos": 3,
    }  # fmt: skip


def test_what_is_not_read_is_listed(tmp_path: Path) -> None:
    more = {"states": np.ones((STEPS, 9)), "next_obs/agentview_image": rendered(STEPS, 16, 1), "odd": np.ones(2)}
    notes = "\n".join(left_out(opened(written(tmp_path / "a.hdf5", {"demo_0": demo(0, **more)}), tmp_path)))
    assert "states: float64 (9), not part of the observation" in notes
    assert "next_obs/agentview_image" in notes
    assert "odd" in notes
    assert "2 rows for 6 steps" in notes


def libero(path: Path, late: bool = True, instruction: Any = "open the drawer", **attributes: Any) -> Path:
    """A file as LIBERO's create_dataset.py writes it: rows bottom up, the observation after the action."""
    joints = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (STEPS + 1, 7)), axis=0)
    states = np.concatenate([np.arange(STEPS)[:, None], joints[:STEPS], np.ones((STEPS, 3))], axis=1)
    datasets = {
        "actions": commands(0),
        "rewards": np.array([0] * (STEPS - 1) + [1], np.uint8),
        "dones": np.array([0] * (STEPS - 1) + [1], np.uint8),
        "states": states,
        "robot_states": np.ones((STEPS, 9)),
        "obs/agentview_rgb": rendered(STEPS, 16, 0)[:, ::-1],
        "obs/eye_in_hand_rgb": rendered(STEPS, 16, 1)[:, ::-1],
        "obs/joint_states": joints[1:] if late else joints[:-1],
    }
    known = {"env_args": env_args(), "problem_info": json.dumps({"language_instruction": instruction})}
    return written(path, {"demo_0": datasets}, known | {"macros_image_convention": "opengl"} | attributes)


def test_libero_pictures_stand_upright(tmp_path: Path) -> None:
    source = Hdf5Files(libero(tmp_path / "a.hdf5", late=False))
    np.testing.assert_array_equal(next(source.episodes()).frames["agentview_rgb"], rendered(STEPS, 16, 0))
    assert any("from bottom to top" in note for note in source.notes)
    stored = Hdf5Files(libero(tmp_path / "b.hdf5", late=False, macros_image_convention="opencv"))
    np.testing.assert_array_equal(next(stored.episodes()).frames["agentview_rgb"], rendered(STEPS, 16, 0)[:, ::-1])


def test_an_observation_after_its_action_is_paired_with_the_next(tmp_path: Path) -> None:
    source = Hdf5Files(libero(tmp_path / "a.hdf5"))
    episode = next(source.episodes())
    np.testing.assert_allclose(episode.actions[:, :3], commands(0)[1:, :3] * 0.05, atol=1e-6)
    np.testing.assert_array_equal(episode.frames["agentview_rgb"], rendered(STEPS, 16, 0)[:-1])
    assert episode.success is True
    assert any("after the action" in note for note in source.notes)
    aligned = next(Hdf5Files(libero(tmp_path / "b.hdf5", late=False)).episodes())
    np.testing.assert_allclose(aligned.actions[:, :3], commands(0)[:, :3] * 0.05, atol=1e-6)


@pytest.mark.parametrize("text", ["open the drawer", ["open", "the", "drawer"]])
def test_the_instruction_is_liberos(tmp_path: Path, text: Any) -> None:
    assert next(Hdf5Files(libero(tmp_path / "a.hdf5", instruction=text)).episodes()).instruction == "open the drawer"


def test_a_demonstrations_own_instruction_counts_more(tmp_path: Path) -> None:
    path = libero(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "close the drawer"})
    assert next(Hdf5Files(path).episodes()).instruction == "close the drawer"


def test_a_folder_is_one_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "libero"
    folder.mkdir()
    libero(folder / "b_demo.hdf5", instruction="b")
    libero(folder / "a_demo.hdf5", instruction="a")
    dataset = opened(folder, tmp_path)
    assert dataset.ids == ["a_demo:demo_0", "b_demo:demo_0"]
    assert dataset.instructions == ["a", "b"]


def test_files_of_two_controllers_are_not_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "libero"
    folder.mkdir()
    libero(folder / "a.hdf5")
    libero(folder / "b.hdf5", env_args=env_args({**OSC, "output_max": 0.1, "output_min": -0.1}))
    with pytest.raises(DataError, match=r"env_args of b\.hdf5 and a\.hdf5 differ"):
        opened(folder, tmp_path)


def test_an_import_is_made_once_for_every_state_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)})
    first = opened(path, tmp_path)
    assert opened(path, tmp_path).root == first.root
    written(path, {"demo_0": demo(0), "demo_1": demo(1)})
    assert opened(path, tmp_path).root != first.root


def test_filter_keys_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0), "demo_1": demo(1)})
    with h5py.File(path, "a") as file:
        file["mask/train"] = np.array([b"demo_0"])
        file["mask/valid"] = np.array([b"demo_1"])
    assert [info["filter_keys"] for info in opened(path, tmp_path).info] == [["train"], ["valid"]]


def test_rewards_that_are_no_labels_label_nothing(tmp_path: Path) -> None:
    shaped = demo(0, rewards=np.linspace(0, 0.9, STEPS))
    dataset = opened(written(tmp_path / "a.hdf5", {"demo_0": shaped}), tmp_path)
    assert dataset.success == [None]
    assert any("unlabelled" in note for note in left_out(dataset))


def test_demonstrations_without_steps_are_said(tmp_path: Path) -> None:
    empty = {key: values[:0] for key, values in demo(1).items()}
    dataset = opened(written(tmp_path / "a.hdf5", {"demo_0": demo(0), "demo_1": empty}), tmp_path)
    assert dataset.ids == ["a:demo_0"]
    assert any("without steps: a.hdf5: demo_1" in note for note in left_out(dataset))


def faulty(path: Path, kind: str) -> Path:
    if kind == "no HDF5":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
        return path
    if kind == "other layout":
        with h5py.File(path, "w") as file:
            file["observations/qpos"] = np.ones(3)
        return path
    if kind == "no actions":
        return written(path, {"demo_0": {"obs/x": np.ones((3, 2))}})
    if kind == "no demonstrations":
        return written(path, {})
    if kind == "another shape":
        return written(path, {"demo_0": demo(0), "demo_1": demo(1, actions=commands(1, 8))})
    if kind == "a feature less":
        return written(
            path, {"demo_0": demo(0), "demo_1": {"actions": commands(1), "obs/robot0_eef_pos": np.ones((STEPS, 3))}}
        )
    if kind == "texts for actions":
        return written(path, {"demo_0": {**demo(0), "actions": np.array([b"left"] * STEPS)}})
    if kind == "no JSON":
        return written(path, {"demo_0": demo(0)}, {"env_args": "{"})
    if kind == "broken text":
        return libero(path, problem_info=np.bytes_(b'{"language_instruction": "tiroir \xe0 gauche"}'))
    path.write_bytes(written(path, {"demo_0": demo(0)}).read_bytes()[:-3000])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no HDF5", "can't be read as HDF5"),
        ("other layout", "has no group 'data' .*; it has observations"),
        ("no actions", r"demo_0 has no 'actions'; it has obs/x: float64 \(2\)\. Name .*--data\.features action=KEY"),
        ("no demonstrations", "holds no demonstration"),
        ("another shape", r"data/demo_1: 'actions' is float64 \(6, 8\); expected 6 steps of float64 \(7\)"),
        ("a feature less", "data/demo_1 has no 'obs/agentview_image'"),
        ("texts for actions", "actions: text.* is not numbers"),
        ("no JSON", "the attribute 'env_args' of /data is not JSON"),
        ("broken text", "problem_info.* is not UTF-8"),
        ("truncated", "can't be read as HDF5: .*truncated.* Copy the file again"),
    ],
)
def test_faults_are_named_with_file_and_field(tmp_path: Path, kind: str, message: str) -> None:
    path = faulty(tmp_path / "a.hdf5", kind)
    with pytest.raises(DataError, match=message) as error:
        opened(path, tmp_path)
    assert "a.hdf5" in str(error.value)


def test_a_path_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no file whose name ends in"):
        opened(tmp_path, tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "nothing.hdf5", tmp_path)

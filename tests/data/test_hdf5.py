import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from demonstrations import OSC, STEPS, commands, demo, env_args, hdf5, left_out, opened, written
from recordings import rendered
from rslwm.types import ActionSpec, DataError

h5py = pytest.importorskip("h5py", reason="h5py, of the extra hdf5, is not installed")


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
    spec = hdf5(written(tmp_path / "lift.hdf5", {"demo_0": demo(0)})).spec
    assert spec.names == ("delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz", "gripper")
    assert (spec.mode, spec.frame, spec.hz, spec.gripper) == ("delta", "base", 20.0, "0 is open, 1 is closed")
    assert spec.high == (0.05, 0.05, 0.05, 0.5, 0.5, 0.5, 1.0)


def test_commands_beyond_the_input_are_clipped_as_the_controller_does(tmp_path: Path) -> None:
    wild = demo(0, actions=3 * commands(0))
    source = hdf5(written(tmp_path / "lift.hdf5", {"demo_0": wild}))
    actions = next(source.episodes()).actions
    assert np.abs(source.spec.normalise(actions)).max() == pytest.approx(1)


def test_asymmetric_ranges_are_mapped_end_to_end(tmp_path: Path) -> None:
    osc = {**OSC, "input_min": 0, "input_max": 2, "output_min": -0.1, "output_max": 0.3}
    recorded = np.tile(np.array([0.0, 1, 2, 0, 1, 2, -1]), (STEPS, 1))
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0, actions=recorded)}, {"env_args": env_args(osc)})
    actions = next(hdf5(path).episodes()).actions
    np.testing.assert_allclose(actions[0], [-0.1, 0.1, 0.3, -0.1, 0.1, 0.3, 0], atol=1e-7)


@pytest.mark.parametrize("absolute", [{"control_delta": False}, {"control_delta": None, "input_type": "absolute"}])
def test_absolute_poses_are_taken_as_they_are(tmp_path: Path, absolute: dict[str, Any]) -> None:
    osc = {key: value for key, value in {**OSC, **absolute}.items() if value is not None}
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)}, {"env_args": env_args(osc)})
    source = hdf5(path)
    assert source.spec.mode == "absolute"
    assert source.spec.names[:3] == ("x", "y", "z")
    np.testing.assert_allclose(next(source.episodes()).actions[:, :6], commands(0)[:, :6], atol=1e-6)
    assert np.abs(source.spec.normalise(next(source.episodes()).actions)).max() <= 1 + 1e-5


def test_a_body_of_parts_is_read(tmp_path: Path) -> None:
    part = {**OSC, "input_type": "delta", "input_ref_frame": "world", "gripper": {"type": "GRIP"}}
    del part["control_delta"]
    composite = {"type": "BASIC", "body_parts": {"right": part}}
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)}, {"env_args": env_args(composite)})
    spec = hdf5(path).spec
    assert (spec.dims, spec.frame, spec.mode) == (7, "world", "delta")


def test_two_arms_have_names_of_their_own(tmp_path: Path) -> None:
    two = demo(0, actions=commands(0, 14))
    path = written(tmp_path / "a.hdf5", {"demo_0": two}, {"env_args": env_args(robots=["Panda", "Panda"])})
    spec = hdf5(path).spec
    assert len(set(spec.names)) == spec.dims == 14
    assert spec.names[0] == "robot0_delta_x"
    assert spec.names[7] == "robot1_delta_x"


def test_positions_alone_have_three_dimensions_and_a_gripper(tmp_path: Path) -> None:
    osc = {**OSC, "type": "OSC_POSITION"}
    four = demo(0, actions=commands(0, 4))
    path = written(tmp_path / "a.hdf5", {"demo_0": four}, {"env_args": env_args(osc)})
    assert hdf5(path).spec.kinds == ("translation",) * 3 + ("gripper",)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "env_args has no"),
        ({"env_args": env_args({**OSC, "type": "JOINT_VELOCITY"})}, "the controller is 'JOINT_VELOCITY'"),
        ({"env_args": env_args({**OSC, "impedance_mode": "variable"})}, "impedance_mode 'variable'"),
        ({"env_args": env_args({**OSC, "type": "OSC_POSITION"})}, "take 4 dimensions"),
        ({"env_args": env_args(control_freq=0)}, "control_freq is 0"),
        ({"env_args": env_args([3])}, "not as robosuite writes it"),
        ({"env_args": env_args({**OSC, "output_max": [0.05]})}, "output_max is [0.05]"),
        ({"env_args": env_args({**OSC, "input_max": -1})}, "input_min isn't below input_max"),
        ({"env_args": env_args({**OSC, "output_max": "a"})}, "not as robosuite writes it"),
        ({"env_args": json.dumps({"env_name": "halfcheetah", "type": 2, "env_kwargs": {}})}, "env_args has no"),
        ({"env_args": env_args({"type": "X", "body_parts": {"base": OSC, "right": OSC}})}, "something else than arms"),
    ],
)
def test_what_is_not_known_is_asked_for_with_lines_to_paste(
    tmp_path: Path, attributes: dict[str, Any], reason: str
) -> None:
    path = written(tmp_path / "a.hdf5", {"demo_0": demo(0)}, attributes)
    with pytest.raises(DataError, match="doesn't say what its actions mean") as error:
        _ = hdf5(path).spec
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
    sizes = {name: len(names) for name, names in dataset.state_names.items()}
    assert sizes | {"contact": 1, "flag": 2, "pose": 16, "robot0_eef_pos": 3} == sizes


def test_what_is_not_read_is_listed(tmp_path: Path) -> None:
    more = {"states": np.ones((STEPS, 9)), "next_obs/agentview_image": rendered(STEPS, 16, 1), "odd": np.ones(2)}
    notes = "\n".join(left_out(opened(written(tmp_path / "a.hdf5", {"demo_0": demo(0, **more)}), tmp_path)))
    assert "states: float64 (9), not part of the observation" in notes
    assert "next_obs/agentview_image" in notes
    assert "odd" in notes
    assert "2 rows for 6 steps" in notes

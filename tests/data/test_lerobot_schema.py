"""What we write is typed as by the real lerobot: ``real_lerobot.py`` made the file that it is compared with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recordings import SPEC, rendered, whole
from rslwm.data import lerobot
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.lerobot import write_lerobot
from rslwm.data.lerobot_schema import action_names, proprioceptive
from rslwm.data.naming import read_names
from rslwm.types import ActionSpec, DataError, Episode

REAL = json.loads(Path(__file__).with_name("real_lerobot_schema.json").read_text())
OWN = "next.success_labelled"


def recorded(i: int, length: int = 9, **states: np.ndarray) -> Episode:
    rng = np.random.default_rng(i)
    states = states or {"vector": rng.normal(size=(length, 3)), "scalar": rng.normal(size=(length, 1))}
    frames = {"front": rendered(length, 64, seed=i)}
    return Episode(f"e{i}", frames, SPEC.denormalise(rng.uniform(-1, 1, (length, 7))), "push", i == 0, states)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    names = {"vector": ["x", "y", "z"], "scalar": ["gap"]}
    return write_lerobot([recorded(0, 12), recorded(1)], tmp_path / "set", SPEC, state_names=names).root


def types(path: Path) -> dict[str, str]:
    return {field.name: str(field.type) for field in pq.read_schema(path)}


def loaded(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_columns_of_steps_are_those_of_the_real_library(root: Path) -> None:
    written = types(root / "data/chunk-000/file-000.parquet")
    assert {name: kind for name, kind in written.items() if name != OWN} == REAL["data"]
    assert written[OWN] == REAL["data"]["next.success"]


def test_columns_of_episodes_are_those_of_the_real_library(root: Path) -> None:
    written = types(root / "meta/episodes/chunk-000/file-000.parquet")
    more = {name for name in written if name.startswith(("rslwm/", f"stats/{OWN}/"))}
    assert {name: kind for name, kind in written.items() if name not in more} == REAL["episodes"]
    for name in more - {"rslwm/id", "rslwm/info"}:
        assert written[name] == REAL["episodes"][name.replace(OWN, "next.success")]


def test_statistics_have_the_names_and_shapes_of_the_real_library(root: Path) -> None:
    stats = loaded(root / "meta/stats.json")
    shapes = {key: {name: str(np.shape(value)) for name, value in found.items()} for key, found in stats.items()}
    assert shapes.pop(OWN) == REAL["stats"]["next.success"]
    assert shapes == REAL["stats"]


def test_features_are_declared_as_by_the_real_library(root: Path) -> None:
    info = loaded(root / "meta/info.json")
    features = info.pop("features")
    assert features.pop(OWN) == REAL["features"]["next.success"]
    expected = {**REAL["features"], "action": {**REAL["features"]["action"], "names": features["action"]["names"]}}
    details = features["observation.images.front"]["info"]
    assert details.pop("video.fps") == SPEC.hz
    assert details.pop("video.pix_fmt") == "yuv444p"
    real = expected["observation.images.front"]["info"]
    expected["observation.images.front"]["info"] = {k: v for k, v in real.items() if k in details}
    assert real.keys() - details.keys() == {"video.fps", "video.pix_fmt"}
    assert features == expected
    assert {**info, "fps": 10, "total_tasks": 2} == REAL["info"] | {"rslwm": info["rslwm"]}


def test_statistics_of_an_episode_are_those_of_its_rows(root: Path) -> None:
    row = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[1]
    actions = recorded(1).actions
    np.testing.assert_allclose(row["stats/action/mean"], actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(row["stats/action/std"], actions.std(0), atol=1e-6)
    np.testing.assert_allclose(row["stats/action/q90"], np.quantile(actions, 0.9, axis=0), atol=1e-6)
    assert (row["stats/action/count"], row["stats/observation.images.front/count"]) == ([9], [9])
    assert (row["stats/index/min"], row["stats/index/max"]) == ([12], [20])


def test_many_episodes_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot, "EPISODE_GROUP", 2)
    dataset = write_lerobot([recorded(i) for i in range(5)], tmp_path / "set", SPEC)
    assert pq.ParquetFile(dataset.root / "meta/episodes/chunk-000/file-000.parquet").num_row_groups == 3
    assert dataset.ids == [f"e{i}" for i in range(5)]


def test_what_a_robot_knows_of_itself_is_also_one_plain_state(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    states = {
        "gripper_position": rng.normal(size=(9, 3)),
        "object_position": rng.normal(size=(9, 6)),
        "joint_position": rng.normal(size=(9, 2)),
    }
    names = {"gripper_position": ["x", "y", "z"]}
    dataset = write_lerobot([recorded(0, **states)], tmp_path / "set", SPEC, state_names=names)
    known = np.concatenate([states["gripper_position"], states["joint_position"]], axis=1)
    np.testing.assert_array_equal(dataset.states(0)["state"], known.astype(np.float32))
    joints = ["joint_position_0", "joint_position_1"]
    assert dataset.state_names["state"] == [*(f"gripper_position_{axis}" for axis in "xyz"), *joints]
    again = write_lerobot([whole(dataset, 0)], tmp_path / "again", SPEC)
    np.testing.assert_array_equal(again.states(0)["state"], dataset.states(0)["state"])


def test_a_recorded_plain_state_stays_what_it_is(tmp_path: Path) -> None:
    states = {"state": np.ones((9, 2)), "gripper_position": np.zeros((9, 3))}
    dataset = write_lerobot([recorded(0, **states)], tmp_path / "set", SPEC)
    np.testing.assert_array_equal(dataset.states(0)["state"], np.ones((9, 2)))


@pytest.mark.parametrize("name", ["goal_position", "object_position", "contact", "drawer_opening", "gripper_camera"])
def test_what_only_a_simulator_knows_is_not_in_the_plain_state(name: str) -> None:
    assert proprioceptive([name, "gripper_opening"]) == ["gripper_opening"]


@pytest.mark.parametrize(
    "name",
    ["ee_ori", "cartesian_position", "robot0_eef_quat", "robot0_gripper_qpos", "joint_states", "left_arm_joint_pos"],
)
def test_a_robots_own_state_is_known_by_its_name(name: str) -> None:
    assert proprioceptive([name]) == [name]


def test_a_name_holds_no_slash(tmp_path: Path) -> None:
    dataset = write_lerobot([recorded(0, **{"arm/force": np.zeros((9, 3))})], tmp_path / "set", SPEC)
    assert [*dataset.state_names] == ["arm.force"]
    both = recorded(0, **{"arm/force": np.zeros((9, 3)), "arm.force": np.zeros((9, 3))})
    with pytest.raises(DataError, match="two have the same name"):
        write_lerobot([both], tmp_path / "other", SPEC)


def test_names_tell_deltas_where_the_spec_is_dropped(root: Path) -> None:
    info = loaded(root / "meta/info.json")
    assert info["features"]["action"]["names"][:4] == ["delta_x", "delta_y", "delta_z", "delta_roll"]
    del info["rslwm"]
    (root / "meta/info.json").write_text(json.dumps(info))
    spec = EpisodeDataset(root).spec
    assert (spec.mode, spec.kinds) == (SPEC.mode, SPEC.kinds)


XYZ, RPY, WXYZ = ["x", "y", "z"], ["roll", "pitch", "yaw"], ["qw", "qx", "qy", "qz"]


@pytest.mark.parametrize(
    ("names", "kinds", "mode"),
    [
        ([*XYZ, *RPY], ["translation"] * 3 + ["rotation"] * 3, "delta"),
        ([*XYZ, *RPY], ["translation"] * 3 + ["rotation"] * 3, "absolute"),
        ([*XYZ, "yaw"], ["translation"] * 3 + ["angle"], "velocity"),
        ([*XYZ, *WXYZ], ["translation"] * 3 + ["quaternion"] * 4, "absolute"),
        (["dx", "dy", "tcp_delta_z"], ["translation"] * 3, "delta"),
        (["joint0", "joint1", "gripper"], ["joint", "joint", "gripper"], "delta"),
        (["joint0", "joint1", "gripper"], ["joint", "joint", "gripper"], "absolute"),
        (["shoulder_pan.pos", "elbow_flex.pos"], ["joint"] * 2, "absolute"),
        (["m0", "m1"], ["joint"] * 2, "absolute"),
        ([f"{side}_{axis}" for side in ("left", "right") for axis in XYZ], ["translation"] * 6, "delta"),
    ],
    ids=str,
)
def test_written_names_tell_what_the_spec_says(names: list[str], kinds: list[str], mode: str) -> None:
    size = len(names)
    spec = ActionSpec(tuple(names), tuple(kinds), ("1",) * size, (-1.0,) * size, (1.0,) * size, mode=mode)
    assert [(told.kind, told.mode) for told in read_names(action_names(spec))] == [
        *zip(spec.kinds, spec.modes, strict=True)
    ]


def test_names_that_tell_are_written_as_they_are() -> None:
    names = ("tcp_delta_x", "tcp_delta_y", "tcp_delta_z", "gripper")
    spec = ActionSpec(names, ("translation",) * 3 + ("gripper",), ("m",) * 4, (-1.0,) * 4, (1.0,) * 4)
    assert action_names(spec) == [*names]


def test_the_same_episodes_make_the_same_bytes(root: Path, tmp_path: Path) -> None:
    names = {"vector": ["x", "y", "z"], "scalar": ["gap"]}
    again = write_lerobot([recorded(0, 12), recorded(1)], tmp_path / "again", SPEC, state_names=names).root
    files = [path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.name != "fingerprint.json"]
    assert len(files) == 6
    assert all((root / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_a_set_of_an_earlier_version_opens(root: Path) -> None:
    """It had lists of one value where scalars belong, and no statistics of episodes."""
    path = root / "data/chunk-000/file-000.parquet"
    table, key = pq.read_table(path), "observation.state.scalar"
    lists = pa.FixedSizeListArray.from_arrays(table[key].combine_chunks(), 1)
    pq.write_table(table.set_column(table.column_names.index(key), key, lists), path)
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    episodes = pq.read_table(path)
    pq.write_table(episodes.select([name for name in episodes.column_names if "stats/" not in name]), path)
    expected = recorded(1).states["scalar"].astype(np.float32)
    np.testing.assert_array_equal(EpisodeDataset(root).states(1)["scalar"], expected)

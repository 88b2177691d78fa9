"""Sets go to the real lerobot and come from it. It needs Python packages that don't install beside ours:

    RSLWM_REAL_LEROBOT=ENV/bin/python RSLWM_REAL_LEROBOT_V21=ENV21/bin/python pytest tests/data/test_real_lerobot.py

with lerobot 0.4.4 in the first environment, 0.3.3 (the last to write v2.1) in the second, ffmpeg in both.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordings import SPEC, rendered
from rslwm.data.check import check
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.lerobot import write_lerobot
from rslwm.types import DataError, Episode

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("real_lerobot.py")
V3, V21 = "RSLWM_REAL_LEROBOT", "RSLWM_REAL_LEROBOT_V21"
LENGTHS = [12, 9, 15, 8]
NAMES = ["delta_x", "delta_y", "delta_z", "delta_roll", "delta_pitch", "delta_yaw", "gripper"]


def real(command: str, version: str = V3, **arguments: Any) -> dict[str, Any]:
    python = os.environ.get(version)
    if not python:
        pytest.skip(f"{version} doesn't name the Python of an environment with the real lerobot")
    words = [python, str(SCRIPT), command, json.dumps(arguments, default=str)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def moving(length: int, size: int, seed: int) -> np.ndarray:
    """Something rendered, under a bar that grows with every step by more than a codec loses."""
    video = rendered(length, size, seed)
    for step, image in enumerate(video):
        image[:12, : 2 * step + 2] = (255, 0, 0)
    return video


def ours(i: int) -> Episode:
    rng, length = np.random.default_rng(i), 7 + 2 * i
    return Episode(
        id=f"push-{i:06d}",
        frames={"front": moving(length, 64, seed=i), "wrist": moving(length, 48, seed=100 + i)},
        actions=SPEC.denormalise(rng.uniform(-1, 1, (length, 7))),
        instruction=("push the red cube", "open the [top] drawer", "schließen")[i % 3],
        success=(True, False, None)[i % 3],
        states={
            "gripper_position": rng.normal(size=(length, 3)).astype(np.float32),
            "gripper_opening": rng.uniform(size=(length, 1)).astype(np.float32),
            "goal_position": rng.normal(size=(length, 3)).astype(np.float32),
        },
    )


def write(root: Path, numbers: range = range(4)) -> EpisodeDataset:
    return write_lerobot([ours(i) for i in numbers], root, SPEC, state_names={"gripper_position": ["x", "y", "z"]})


def assert_ours(dataset: EpisodeDataset, originals: list[int], first: int = 0) -> None:
    """From episode ``first`` on, the set holds these of our episodes: every step, every camera."""
    for i, number in enumerate(originals, first):
        original = ours(number)
        assert dataset.instructions[i] == original.instruction
        assert dataset.success[i] == original.success
        np.testing.assert_array_equal(dataset.actions(i), original.actions)
        for camera, frames in original.frames.items():
            read = dataset.frames(i, camera).astype(int)
            errors = np.stack([np.abs(read - frame).mean((1, 2, 3)) for frame in frames])
            # The tools encode what they cut again, at a quality that costs about five grey levels.
            assert errors.diagonal().max() < 8
            assert errors.argmin(axis=0).tolist() == [*range(len(original))]


def assert_theirs(dataset: EpisodeDataset, originals: list[int]) -> None:
    """The set holds these of their episodes, and every picture shows the episode and the step of its row."""
    assert dataset.lengths.tolist() == [LENGTHS[number] for number in originals]
    for i, number in enumerate(originals):
        steps = np.arange(LENGTHS[number])
        np.testing.assert_array_equal(dataset.actions(i)[:, 0], number)
        np.testing.assert_array_equal(dataset.actions(i)[:, 1], steps)
        for camera in dataset.cameras:
            width = dataset.image_size(camera)[1]
            frames = dataset.frames(i, camera).astype(float)
            left, right = frames[:, :, : width // 2 - 4], frames[:, :, width // 2 + 4 :]
            np.testing.assert_allclose(left.mean((1, 2, 3)), 20 + 24 * number, atol=5)
            np.testing.assert_allclose(right.mean((1, 2, 3)), 20 + 12 * steps, atol=5)


def features(kind: str = "video", names: list[str] = NAMES) -> dict[str, Any]:
    picture = {"dtype": kind, "names": ["height", "width", "channels"]}
    return {
        "action": {"dtype": "float32", "shape": [len(names)], "names": names},
        "observation.state": {"dtype": "float32", "shape": [3], "names": ["j0", "j1", "j2"]},
        "observation.images.top": {**picture, "shape": [96, 128, 3]},
        "observation.images.wrist": {**picture, "shape": [64, 64, 3]},
    }


# --------------------------------------------------------------------------------------- ours, opened by the real one


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, np.ndarray], EpisodeDataset]:
    root = tmp_path_factory.mktemp("ours")
    dataset = write(root / "set")
    facts = real("read", root=root / "set", out=root / "read.npz")
    return facts, dict(np.load(root / "read.npz")), dataset


Opened = tuple[dict[str, Any], dict[str, np.ndarray], EpisodeDataset]


def test_ours_opens_with_its_rows_and_tasks(opened: Opened) -> None:
    facts, numbers, dataset = opened
    episodes = [ours(i) for i in range(4)]
    assert facts["lengths"] == dataset.lengths.tolist() == [len(e) for e in episodes]
    assert facts["tasks"] == [e.instruction for e in episodes for _ in range(len(e))]
    np.testing.assert_array_equal(numbers["action"], np.concatenate([e.actions for e in episodes]))
    np.testing.assert_array_equal(
        numbers["observation.state.gripper_opening"].ravel(),
        np.concatenate([e.states["gripper_opening"] for e in episodes]).ravel(),
    )
    parts = [np.concatenate([*e.states.values()][:2], axis=1) for e in episodes]
    np.testing.assert_array_equal(numbers["observation.state"], np.concatenate(parts))


def test_ours_shows_its_frames_on_every_camera(opened: Opened) -> None:
    facts, numbers, _ = opened
    assert facts["cameras"] == ["observation.images.front", "observation.images.wrist"]
    for camera in ("front", "wrist"):
        original = np.concatenate([ours(i).frames[camera] for i in range(4)])
        read = numbers[f"observation.images.{camera}"].transpose(0, 2, 3, 1)
        assert np.abs(read.astype(int) - original).mean() < 3
        assert np.abs(read.astype(int) - original).mean((1, 2, 3)).max() < 4


def test_ours_makes_batches_and_keeps_its_statistics(opened: Opened) -> None:
    facts, numbers, dataset = opened
    assert facts["batch"]["action"] == [4, 7]
    assert facts["batch"]["observation.images.front"] == [4, 3, 64, 64]
    assert facts["batch"]["observation.state"] == [4, 4]
    assert facts["batch"]["task"] == ["push the red cube"] * 4
    assert facts["stats"] == json.loads((dataset.root / "meta/stats.json").read_text())
    np.testing.assert_allclose(facts["stats"]["action"]["mean"], numbers["action"].mean(0), atol=1e-6)
    pixels = numbers["observation.images.front"] / 255
    np.testing.assert_allclose(
        np.ravel(facts["stats"]["observation.images.front"]["mean"]), pixels.mean((0, 2, 3)), atol=0.01
    )


def test_ours_can_be_recorded_on_and_reopened_in_both(tmp_path: Path) -> None:
    write(tmp_path / "set")
    real("append", root=tmp_path / "set", lengths=[6, 9])
    facts = real("read", root=tmp_path / "set", out=tmp_path / "read.npz")
    assert facts["lengths"] == [7, 9, 11, 13, 6, 9]
    dataset = EpisodeDataset(tmp_path / "set")
    assert dataset.spec == SPEC
    assert_ours(dataset, [0, 1, 2, 3])
    assert dataset.ids[:4] == [ours(i).id for i in range(4)]
    assert len({*dataset.ids}) == 6
    np.testing.assert_array_equal(dataset.actions(5)[:, :2], [[5, step] for step in range(9)])
    assert dataset.frames(5, "front")[3, :, :28].mean() == pytest.approx(20 + 24 * 5, abs=5)
    assert dataset.frames(5, "front")[3, :, 36:].mean() == pytest.approx(20 + 12 * 3, abs=5)


def assert_still_tells(dataset: EpisodeDataset) -> None:
    """The tools drop the action spec; the names must say what the actions are, and nothing is found damaged."""
    assert (dataset.spec.mode, dataset.spec.kinds) == (SPEC.mode, SPEC.kinds)
    assert [f for f in check(dataset).findings if f.severity == "error"] == []


def test_ours_survives_deleted_episodes(tmp_path: Path) -> None:
    write(tmp_path / "set")
    real("delete", root=tmp_path / "set", out=tmp_path / "deleted", episodes=[1])
    dataset = EpisodeDataset(tmp_path / "deleted")
    assert_ours(dataset, [0, 2, 3])
    assert_still_tells(dataset)


def test_ours_survives_a_split(tmp_path: Path) -> None:
    write(tmp_path / "set")
    real("split", root=tmp_path / "set", out=tmp_path / "parts", splits={"a": [0, 3], "b": [1, 2]})
    for name, numbers in {"a": [0, 3], "b": [1, 2]}.items():
        dataset = EpisodeDataset(tmp_path / "parts" / name)
        assert_ours(dataset, numbers)
        assert_still_tells(dataset)


def test_ours_survives_a_merge_with_another_and_with_itself(tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "two", range(3, 6))
    real("merge", roots=[tmp_path / "one", tmp_path / "two"], out=tmp_path / "merged")
    dataset = EpisodeDataset(tmp_path / "merged")
    assert_ours(dataset, [0, 1, 2, 3, 3, 4, 5])
    assert len({*dataset.ids}) == 7
    assert_still_tells(dataset)


def test_ours_survives_a_removed_feature(tmp_path: Path) -> None:
    write(tmp_path / "set")
    feature = "observation.state.goal_position"
    real("remove", root=tmp_path / "set", out=tmp_path / "removed", feature=feature)
    dataset = EpisodeDataset(tmp_path / "removed")
    assert_ours(dataset, [0, 1, 2, 3])
    assert "goal_position" not in dataset.state_names
    assert_still_tells(dataset)


# ------------------------------------------------------------------------------------------- theirs, opened here


@pytest.mark.parametrize("codec", ["libsvtav1", "h264", "hevc"])
def test_their_videos_open(tmp_path: Path, codec: str) -> None:
    real("record", root=tmp_path / "set", features=features(), lengths=LENGTHS, vcodec=codec)
    dataset = EpisodeDataset(tmp_path / "set")
    assert dataset.cameras == ["top", "wrist"]
    assert_theirs(dataset, [0, 1, 2, 3])
    assert check(dataset).findings == []


def test_their_pictures_in_tables_open(tmp_path: Path) -> None:
    real("record", root=tmp_path / "set", features=features("image"), lengths=LENGTHS, use_videos=False)
    dataset = EpisodeDataset(tmp_path / "set")
    assert dataset.cameras == ["top", "wrist"]
    assert_theirs(dataset, [0, 1, 2, 3])


@pytest.mark.parametrize("kind", ["video", "image"])
def test_their_sets_of_version_two_open(tmp_path: Path, kind: str) -> None:
    settings = {"features": features(kind), "lengths": LENGTHS, "use_videos": kind == "video"}
    real("record", V21, root=tmp_path / "set", **settings)
    dataset = EpisodeDataset(tmp_path / "set")
    assert dataset.cameras == ["top", "wrist"]
    assert_theirs(dataset, [0, 1, 2, 3])


@pytest.mark.parametrize("kind", ["video", "image"])
def test_their_edited_sets_open(tmp_path: Path, kind: str) -> None:
    settings = {"features": features(kind), "lengths": LENGTHS, "use_videos": kind == "video"}
    for name in ("one", "two"):
        real("record", root=tmp_path / name, **settings)
    real("delete", root=tmp_path / "one", out=tmp_path / "deleted", episodes=[0, 2])
    real("split", root=tmp_path / "one", out=tmp_path / "parts", splits={"a": [2], "b": [0, 1, 3]})
    real("merge", roots=[tmp_path / "deleted", tmp_path / "two", tmp_path / "parts/b"], out=tmp_path / "merged")
    found = {"deleted": [1, 3], "parts/a": [2], "parts/b": [0, 1, 3], "merged": [1, 3, 0, 1, 2, 3, 0, 1, 3]}
    for name, numbers in found.items():
        assert_theirs(EpisodeDataset(tmp_path / name), numbers)


def test_their_sets_that_were_recorded_on_open(tmp_path: Path) -> None:
    real("record", root=tmp_path / "set", features=features(), lengths=LENGTHS[:2])
    real("append", root=tmp_path / "set", lengths=LENGTHS[2:])
    assert_theirs(EpisodeDataset(tmp_path / "set"), [0, 1, 2, 3])


def test_an_unfinished_recording_is_called_that(tmp_path: Path) -> None:
    real("record", root=tmp_path / "set", features=features(), lengths=LENGTHS, finalize=False)
    with pytest.raises(DataError, match=r"finalize"):
        [*EpisodeDataset(tmp_path / "set")]


@pytest.mark.parametrize(
    "names",
    [
        ["tcp_delta_x", "tcp_delta_y", "tcp_delta_z", "tcp_delta_rx", "tcp_delta_ry", "tcp_delta_rz", "gripper"],
        [*(f"world_vector_{axis}" for axis in "xyz"), *(f"rotation_delta_{axis}" for axis in "xyz"), "gripper_closed"],
        ["x.vel", "y.vel", "theta.vel"],
        ["delta_x", "delta_y", "delta_z", "delta_yaw", "gripper"],
        ["joint_0_delta", "joint_1_delta", "joint_2_delta"],
    ],
    ids=lambda names: names[0],
)
def test_no_name_of_theirs_makes_a_motion_a_target(tmp_path: Path, names: list[str]) -> None:
    real("record", root=tmp_path / "set", features=features(names=names), lengths=LENGTHS)
    dataset = EpisodeDataset(tmp_path / "set")
    assert_theirs(dataset, [0, 1, 2, 3])
    try:
        mode = dataset.spec.mode
    except DataError as question:
        mode = "asked" if "action_spec" in str(question) else str(question)
    assert mode in ("delta", "asked")

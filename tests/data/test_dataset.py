import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recordings import SPEC, rendered, whole
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.lerobot import write_lerobot
from rslwm.types import DataError

Edit = Callable[[EpisodeDataset, Callable[[dict[str, Any]], object]], EpisodeDataset]
LENGTHS = (5, 8)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A LeRobot v3 folder as other programs write it: joint targets, one state, B-frames, none of our keys."""
    root, total = tmp_path / "foreign", sum(LENGTHS)
    for folder in ("meta/episodes/chunk-000", "data/chunk-000", "videos/observation.images.top/chunk-000"):
        (root / folder).mkdir(parents=True)
    joints = {"dtype": "float32", "shape": [3], "names": {"motors": ["shoulder.pos", "elbow.pos", "gripper.pos"]}}
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": "v3.0",
        "fps": 10,
        "total_episodes": 2,
        "total_frames": total,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            "action": joints,
            "observation.state": joints,
            "observation.images.top": {
                "dtype": "video",
                "shape": [32, 32, 3],
                "names": ["height", "width", "channels"],
            },
            "index": scalar,
        },
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    actions = np.random.default_rng(0).normal(size=(total, 3)).tolist()
    table = pa.table({"action": actions, "observation.state": actions, "index": range(total)})
    pq.write_table(table, root / "data/chunk-000/file-000.parquet")
    video = "videos/observation.images.top"
    rows = [
        {
            "episode_index": i,
            "tasks": [f"task {i}"],
            "length": length,
            "dataset_from_index": start,
            "dataset_to_index": start + length,
            f"{video}/chunk_index": 0,
            f"{video}/file_index": 0,
            f"{video}/from_timestamp": start / 10,
            f"{video}/to_timestamp": (start + length) / 10,
        }
        for i, (start, length) in enumerate(zip((0, LENGTHS[0]), LENGTHS, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    with av.open(str(root / f"{video}/chunk-000/file-000.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width = stream.height = 32
        for frame in rendered(total, 32, 0):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return root


def test_a_foreign_set_opens_with_a_derived_spec(foreign: Path) -> None:
    dataset = EpisodeDataset(foreign)
    assert dataset.ids == ["episode-000000", "episode-000001"]
    assert dataset.instructions == ["task 0", "task 1"]
    assert dataset.success == [None, None]
    assert dataset.cameras == ["top"]
    assert dataset.state_names == {"state": ["shoulder.pos", "elbow.pos", "gripper.pos"]}
    assert dataset.spec.mode == "absolute"
    assert dataset.spec.kinds == ("joint", "joint", "gripper")
    assert dataset.spec.hz == 10
    everything = np.concatenate([dataset.actions(i) for i in range(2)])
    np.testing.assert_allclose(dataset.spec.low, everything.min(axis=0))
    normalised = dataset.spec.normalise(everything)
    np.testing.assert_allclose([normalised.min(), normalised.max()], [-1, 1], atol=1e-5)


def test_a_foreign_video_is_cut_at_the_right_frames(foreign: Path) -> None:
    dataset, frames = EpisodeDataset(foreign), rendered(sum(LENGTHS), 32, 0).astype(float)
    second = dataset.frames(1, "top")
    errors = [np.abs(second - frames[start : start + 8]).mean() for start in range(6)]
    assert int(np.argmin(errors)) == LENGTHS[0]


def test_success_of_others_is_read_from_next_success(foreign: Path, edit_info: Edit) -> None:
    path = foreign / "data/chunk-000/file-000.parquet"
    success = pa.array([False] * 12 + [True])
    pq.write_table(pq.read_table(path).append_column("next.success", success), path)
    feature = {"dtype": "bool", "shape": [1], "names": None}
    dataset = edit_info(EpisodeDataset(foreign), lambda info: info["features"].update({"next.success": feature}))
    assert dataset.success == [False, True]


def test_ambiguous_actions_ask_for_the_key(dataset: EpisodeDataset, edit_info: Edit) -> None:
    plain = {"names": [*SPEC.names]}
    again = edit_info(dataset, lambda info: (info.pop("rslwm"), info["features"]["action"].update(plain)))
    with pytest.raises(DataError, match=r"info\.json: the names of the action dimensions.*'rslwm'.*action_spec"):
        _ = again.spec


def test_an_id_that_a_merge_has_doubled_is_numbered(dataset: EpisodeDataset) -> None:
    path = dataset.root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows[1:3]:
        row["rslwm/id"] = rows[0]["rslwm/id"]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert EpisodeDataset(dataset.root).ids == ["push-000000", "push-000000@1", "push-000000@2", "push-000003"]


def test_a_malformed_action_spec_is_named(dataset: EpisodeDataset, edit_info: Edit) -> None:
    again = edit_info(dataset, lambda info: info["rslwm"]["action_spec"].update(kinds=["turn"] * 7))
    with pytest.raises(DataError, match=r"info\.json: action_spec\.kinds\[0\]: 'turn' is not one of 'translation'"):
        _ = again.spec


def test_another_version_of_the_format_is_refused(dataset: EpisodeDataset, edit_info: Edit) -> None:
    with pytest.raises(DataError, match=r"codebase_version is v1\.6; supported are LeRobot v2\.x and v3\.x\. Convert"):
        edit_info(dataset, lambda info: info.update(codebase_version="v1.6"))


def test_missing_episodes_are_counted(dataset: EpisodeDataset, edit_info: Edit) -> None:
    with pytest.raises(DataError, match=r"lists 4 episodes, but total_episodes .* is 5"):
        edit_info(dataset, lambda info: info.update(total_episodes=5))


def test_a_folder_that_is_no_data_set_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"info\.json does not exist"):
        EpisodeDataset(tmp_path)


def test_a_truncated_table_is_named(dataset: EpisodeDataset) -> None:
    os.truncate(dataset.root / "data/chunk-000/file-000.parquet", 500)
    with pytest.raises(DataError, match=r"file-000\.parquet can't be read"):
        EpisodeDataset(dataset.root).actions(0)


def test_an_unknown_camera_lists_the_known_ones(dataset: EpisodeDataset) -> None:
    assert dataset.camera("") == "front"
    with pytest.raises(DataError, match="no camera 'wrist'; it has: front"):
        dataset.frames(0, "wrist")


def test_the_fingerprint_survives_a_copy_and_notices_a_byte(dataset: EpisodeDataset, tmp_path: Path) -> None:
    before = dataset.fingerprint
    copy = dataset.root.rename(tmp_path / "moved")
    for path in copy.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    assert EpisodeDataset(copy).fingerprint == before
    video = next(copy.rglob("*.mp4"))
    content = bytearray(video.read_bytes())
    content[len(content) // 2] ^= 1
    video.write_bytes(content)
    assert EpisodeDataset(copy).fingerprint != before


def test_equal_recordings_have_equal_fingerprints(dataset: EpisodeDataset, tmp_path: Path) -> None:
    recorded = [whole(dataset, i) for i in range(3)]
    again = write_lerobot(iter(recorded[:2]), tmp_path / "a", SPEC)
    twice = write_lerobot(iter(recorded[:2]), tmp_path / "b", SPEC)
    other = write_lerobot(iter(recorded), tmp_path / "c", SPEC)
    assert again.fingerprint == twice.fingerprint != other.fingerprint

import errno
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from recordings import SPEC, episode, whole
from rslwm.data import lerobot
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.lerobot import write_lerobot
from rslwm.types import DataError, Episode


def test_everything_but_the_pixels_comes_back_exactly(dataset: EpisodeDataset, episodes: list[Episode]) -> None:
    again = EpisodeDataset(dataset.root)
    assert again.spec == SPEC
    assert again.fps == SPEC.hz
    assert again.lengths.tolist() == [6, 7, 8, 9]
    assert again.state_names == {"gripper": ["x", "y", "z"]}
    for i, original in enumerate(episodes):
        read = whole(again, i)
        assert (read.id, read.instruction, read.info) == (original.id, original.instruction, original.info)
        np.testing.assert_array_equal(read.actions, original.actions)
        np.testing.assert_array_equal(read.states["gripper"], original.states["gripper"])


def test_unlabelled_is_neither_success_nor_failure(dataset: EpisodeDataset) -> None:
    assert dataset.success == [True, False, None, True]


def test_every_camera_of_every_episode_comes_back(tmp_path: Path) -> None:
    originals = [episode(i, length=5 + i, cameras=("front", "wrist"), size=64) for i in range(3)]
    dataset = write_lerobot(originals, tmp_path / "set", SPEC)
    assert dataset.cameras == ["front", "wrist"]
    for i, original in enumerate(originals):
        for camera, frames in original.frames.items():
            error = (dataset.frames(i, camera).astype(float) - frames) ** 2
            assert 10 * np.log10(255**2 / error.mean()) > 38


def test_files_roll_over_at_their_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot, "VIDEO_MB", 0)
    monkeypatch.setattr(lerobot, "DATA_MB", 0)
    monkeypatch.setattr(lerobot, "CHUNK_FILES", 2)
    # Longer than what the encoder holds back before the file gets its first bytes.
    originals = [episode(i, length=30) for i in range(3)]
    dataset = write_lerobot(originals, tmp_path / "set", SPEC)
    videos = sorted(p.relative_to(dataset.root).as_posix() for p in dataset.root.rglob("*.mp4"))
    assert [v.split("front/")[1] for v in videos] == [
        "chunk-000/file-000.mp4",
        "chunk-000/file-001.mp4",
        "chunk-001/file-000.mp4",
    ]
    for i, original in enumerate(originals):
        np.testing.assert_array_equal(dataset.actions(i), original.actions)
        assert dataset.frames(i, "front").shape == original.frames["front"].shape


def test_the_layout_is_lerobot_v3(dataset: EpisodeDataset) -> None:
    info = json.loads(dataset.info_file.read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (4, 30, 2)
    rows = pq.read_table(dataset.root / info["data_path"].format(chunk_index=0, file_index=0)).to_pydict()
    assert rows["index"] == list(range(30))
    assert rows["frame_index"][:7] == [0, 1, 2, 3, 4, 5, 0]
    np.testing.assert_allclose(rows["timestamp"][:3], [0, 0.2, 0.4], atol=1e-6)
    assert set(info["features"]) - {"observation.images.front"} == set(rows)
    tasks = pq.read_table(dataset.root / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert tasks["task"].to_pylist() == ["push the red cube", "open the drawer"]


def test_stats_are_those_of_the_data(dataset: EpisodeDataset, episodes: list[Episode]) -> None:
    stats = json.loads((dataset.root / "meta/stats.json").read_text())
    actions = np.concatenate([e.actions for e in episodes])
    for name, value in {
        "min": actions.min(0),
        "max": actions.max(0),
        "mean": actions.mean(0),
        "std": actions.std(0),
    }.items():
        np.testing.assert_allclose(stats["action"][name], value, atol=1e-6)
    image = stats["observation.images.front"]
    assert np.shape(image["mean"]) == (3, 1, 1)
    assert 0 <= np.min(image["min"]) <= np.max(image["max"]) <= 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, failure: type[BaseException]) -> None:
    def interrupted() -> Iterator[Episode]:
        yield episode(0)
        raise failure

    with pytest.raises(failure):
        write_lerobot(interrupted(), tmp_path / "set", SPEC)
    assert [*tmp_path.iterdir()] == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lerobot.pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match=r"No space left on device after 1 episodes; none is kept.*set'"):
        write_lerobot([episode(0)], tmp_path / "set", SPEC)
    assert [*tmp_path.iterdir()] == []


def test_a_video_that_meets_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise av.error.OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lerobot.VideoWriter, "close", full)
    with pytest.raises(OSError, match="after 1 episodes"):
        write_lerobot([episode(0)], tmp_path / "set", SPEC)
    assert [*tmp_path.iterdir()] == []


def test_the_remains_of_a_killed_run_are_replaced(tmp_path: Path) -> None:
    remains = tmp_path / ".set.partial/data/chunk-000"
    remains.mkdir(parents=True)
    (remains / "file-007.parquet").write_text("half")
    dataset = write_lerobot([episode(0)], tmp_path / "set", SPEC)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert len(dataset) == 1
    assert dataset.actions(0).shape == (9, 7)


def test_an_existing_folder_is_never_overwritten(dataset: EpisodeDataset) -> None:
    with pytest.raises(DataError, match="exists"):
        write_lerobot([episode(0)], dataset.root, SPEC)


def test_a_short_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got 1 episodes, expected 2"):
        write_lerobot([episode(0)], tmp_path / "set", SPEC, total=2)


def test_progress_counts_episodes(tmp_path: Path) -> None:
    seen: list[int] = []
    recorded = [episode(i) for i in range(3)]
    write_lerobot(recorded, tmp_path / "set", SPEC, total=3, progress=lambda done, *_: seen.append(done))
    assert seen == [1, 2, 3]


def test_inconsistent_episodes_are_named(tmp_path: Path) -> None:
    one, two = episode(0), episode(1)
    broken = {
        r"'push-000001': observation.images.front has shape \(16, 16, 3\)": episode(1, size=16),
        r"'push-000001': observation.images.wrist has shape": episode(1, cameras=("front", "wrist")),
        r"'push-000001': observation.state.gripper has shape None": replace(two, states={}),
        r"'push-000001': action has shape \(6,\)": replace(two, actions=two.actions[:, :6]),
        r"'push-000001' has 8 actions": replace(two, actions=two.actions[:8]),
        r"'push-000000' comes twice": replace(two, id=one.id),
        r"states \['gripper'\] are not \(T, n\)": replace(two, states={"gripper": two.states["gripper"][:, 0]}),
        r"front is not uint8": replace(two, frames={"front": two.frames["front"] / 255}),
    }
    for message, wrong in broken.items():
        with pytest.raises(DataError, match=message):
            write_lerobot([one, wrong], tmp_path / "set", SPEC)
        assert not (tmp_path / "set").exists()

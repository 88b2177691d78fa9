"""Small LeRobot folders that real tools and people have produced, which are not part of the repository."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rslwm.data.check import check
from rslwm.data.dataset import EpisodeDataset
from rslwm.types import DataError

CASES = Path(__file__).parents[2] / "../shared/cases"

MAPPED = ("action=actions", "observation.images.front=image", "observation.state=state")
HEALTHY = {
    "L0_av1_control": 92, "L2c_video30": 92, "L4_depth": 92, "L5_images_in_table": 92, "L7_names_index": 92,
    "L10_openpi_names": 92, "L12_texts": 92, "L12b_closing_tag": 92, "L16_hevc_bframes": 92, "L17_gray": 92,
    "L19_other_data_path": 92, "L21_two_files": 184, "L23_first_check": 92, "L9c_no_tasks_column": 92,
    "W_images": 150, "W_rt1_names": 75, "W_tcp_delta": 75, "W_two_sizes": 150, "W_v21": 150, "W_delta_yaw": 75,
}  # fmt: skip
"""Frames of all cameras."""


def opened(name: str) -> EpisodeDataset:
    if not (CASES / name).is_dir():
        pytest.skip(f"{CASES / name} is absent")
    return EpisodeDataset(CASES / name, MAPPED if name.startswith("L10") else ())


@cache
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Of L5, which are lossless: (N, H, W, 3) and the (episode, step) that each shows."""
    dataset = opened("L5_images_in_table")
    frames = np.concatenate([dataset.frames(i, "front") for i in range(len(dataset))])
    steps = np.concatenate([dataset.states(i)["state"][:, :2] for i in range(len(dataset))])
    return frames.astype(np.float32), steps


def misplaced(dataset: EpisodeDataset, i: int, camera: str) -> int:
    """Rows whose frame is nearer to another row's picture than to their own."""
    known, steps = pictures()
    gray = dataset.frames(i, camera).std(axis=3).max() < 2
    known = known.mean(axis=3, keepdims=True) if gray else known
    own = dataset.states(i)["state"][:, :2]
    wrong = 0
    for frame, row in zip(dataset.frames(i, camera), own, strict=True):
        errors = np.abs(known - frame).mean(axis=(1, 2, 3))
        wrong += errors[(steps == row).all(axis=1)].min() > errors.min() + 0.1
    return wrong


@pytest.mark.parametrize("name", sorted(HEALTHY))
def test_a_healthy_case_has_no_findings_about_its_rows_and_frames(name: str) -> None:
    dataset = opened(name)
    found = [f for f in check(dataset).findings if "action" not in f.where and "rslwm" not in f.what]
    assert [f for f in found if "info.json" not in f.where] == []
    frames = [len(dataset.frames(i, camera)) for i in range(len(dataset)) for camera in dataset.cameras]
    assert sum(frames) == HEALTHY[name]
    assert not (dataset.root / "meta/fingerprint.json").exists()


@pytest.mark.parametrize(
    "name", [*(n for n in sorted(HEALTHY) if n[0] == "L"), "L2_gap", "L8_joint_delta", "L9_subtasks"]
)
def test_every_row_shows_its_picture(name: str) -> None:
    dataset = opened(name)
    assert sum(misplaced(dataset, i, camera) for i in range(len(dataset)) for camera in dataset.cameras) == 0


@pytest.mark.parametrize(
    ("name", "episode", "message"),
    [
        ("L1_boundaries", 0, "the metadata give it rows 0 to 19, but rows 20 to 23 have its episode_index 0, too"),
        ("L2_gap", 1, "a gap: step 10 comes 0.700 s after step 9 instead of 0.100 s (frame_index 9 to 16, 10 Hz)"),
        ("L2b_drift", 3, "run at 9.5 Hz, fps in info.json is 10: 0.132 s apart after 26 steps"),
        ("L18_empty_episode", 1, "is empty (length 0, no steps) in the metadata, but rows 20 to 43"),
        ("L22_merged_offset", 3, "the video ends at 4.700 s, step 0 is at 6.600 s"),
    ],
)
def test_a_fault_is_named_with_its_place_and_size(name: str, episode: int, message: str) -> None:
    errors = [f for f in check(opened(name)).findings if f.severity == "error"]
    assert any(message in f.what and str(episode) in f.where for f in errors)


def test_frames_across_a_drift_are_refused() -> None:
    dataset = opened("L2b_drift")
    for i in range(len(dataset)):
        with pytest.raises(DataError, match=r"0\.026 s away"):
            dataset.frames(i, "front")


@pytest.mark.parametrize(
    ("name", "instructions"),
    [
        ("L9_subtasks", ["pick the cube"] * 4),
        ("L9c_no_tasks_column", ["open the drawer", "close the drawer"] * 2),
        ("L12b_closing_tag", ["push to [/left]"] * 4),
    ],
)
def test_text_follows_the_task_index(name: str, instructions: list[str]) -> None:
    assert opened(name).instructions == instructions


def test_other_names_are_asked_for_with_the_flag_to_write() -> None:
    root = opened("L10_openpi_names").root
    with pytest.raises(DataError, match=r"actions float32 \(7,\)") as asked:
        EpisodeDataset(root)
    assert f"--data.features {','.join((MAPPED[0], MAPPED[1], MAPPED[2]))}" in str(asked.value)


def test_a_depth_map_is_left_out_and_said() -> None:
    dataset = opened("L4_depth")
    assert dataset.camera("") == "front"
    assert dataset.left_out == ["camera 'depth' is a depth map, and left out"]

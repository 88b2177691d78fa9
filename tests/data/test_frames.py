from pathlib import Path

import numpy as np
import pytest
import torch

from recordings import SPEC, episode
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.frames import build_frame_store, resize
from rslwm.data.lerobot import write_lerobot
from rslwm.types import DataError


def test_shrinking_averages_areas() -> None:
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    frames[0, :2, :2] = [[[0, 40, 80], [40, 80, 120]], [[80, 120, 160], [120, 160, 200]]]
    np.testing.assert_array_equal(resize(frames, 2)[0, 0, 0], [60, 100, 140])


def test_frames_of_the_right_size_are_left_alone() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert resize(frames, 8) is frames


def test_growing_keeps_flat_colours() -> None:
    assert (resize(np.full((2, 4, 6, 3), 77, np.uint8), 16) == 77).all()


def test_the_store_holds_every_episode_under_its_id(dataset: EpisodeDataset, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    store = build_frame_store(dataset, "", 16, tmp_path / "frames", lambda *told: seen.append(told))
    assert store.keys == dataset.ids
    assert seen == [(i, 4, f"episode {name}") for i, name in enumerate(dataset.ids, 1)]
    assert store[dataset.ids[2]].dtype == torch.uint8
    np.testing.assert_array_equal(store[dataset.ids[2]].numpy(), resize(dataset.frames(2, "front"), 16))


def test_a_finished_store_decodes_nothing(
    dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_frame_store(dataset, "front", 16, tmp_path / "frames")
    monkeypatch.delattr(EpisodeDataset, "frames")
    assert build_frame_store(dataset, "front", 16, tmp_path / "frames").keys == dataset.ids


def test_another_size_does_not_pass_for_it(dataset: EpisodeDataset, tmp_path: Path) -> None:
    build_frame_store(dataset, "front", 16, tmp_path / "frames")
    with pytest.raises(DataError, match="'image_size' is 16 there and 8 here"):
        build_frame_store(dataset, "front", 8, tmp_path / "frames")


@pytest.fixture
def two_cameras(tmp_path: Path) -> EpisodeDataset:
    return write_lerobot((episode(i, 6, ("front", "side")) for i in range(2)), tmp_path / "two", SPEC)


def test_several_cameras_lie_side_by_side(two_cameras: EpisodeDataset, tmp_path: Path) -> None:
    store = build_frame_store(two_cameras, "front,side", 16, tmp_path / "wide")
    for i, name in enumerate(two_cameras.ids):
        halves = [resize(two_cameras.frames(i, camera), 16) for camera in ("front", "side")]
        np.testing.assert_array_equal(store[name].numpy(), np.concatenate(halves, axis=2))


def test_cameras_lie_in_the_order_in_which_they_are_named(two_cameras: EpisodeDataset, tmp_path: Path) -> None:
    one = build_frame_store(two_cameras, "front,side", 16, tmp_path / "one")
    other = build_frame_store(two_cameras, "side, front", 16, tmp_path / "other")
    for name in two_cameras.ids:
        left, right = one[name].chunk(2, 2)
        assert not torch.equal(left, right)
        assert torch.equal(other[name], torch.cat([right, left], 2))


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ("front,wrist", r"has no camera 'wrist'; it has: front, side"),
        ("front,front", r"'front,front' shows front, front; name every camera once"),
        ("front,", r"'front,' shows front, front"),
    ],
)
def test_cameras_that_are_not_there_or_come_twice_are_refused(
    cameras: str, message: str, two_cameras: EpisodeDataset, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        build_frame_store(two_cameras, cameras, 16, tmp_path / "frames")

from pathlib import Path

import numpy as np
import pytest
import torch

from rslwm.data.dataset import EpisodeDataset
from rslwm.data.frames import build_frame_store, resize
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
    seen: list[int] = []
    store = build_frame_store(dataset, "", 16, tmp_path / "frames", seen.append)
    assert store.keys == dataset.ids
    assert seen == [1, 2, 3, 4]
    assert store[dataset.ids[2]].dtype == torch.uint8
    np.testing.assert_array_equal(store[dataset.ids[2]].numpy(), resize(dataset.frames(2, "front"), 16))


def test_a_finished_store_decodes_nothing(
    dataset: EpisodeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_frame_store(dataset, "front", 16, tmp_path / "frames")
    monkeypatch.delattr(EpisodeDataset, "frames")
    assert len(build_frame_store(dataset, "front", 16, tmp_path / "frames")) == 4


def test_another_size_does_not_pass_for_it(dataset: EpisodeDataset, tmp_path: Path) -> None:
    build_frame_store(dataset, "front", 16, tmp_path / "frames")
    with pytest.raises(DataError, match="'image_size' is 16 there and 8 here"):
        build_frame_store(dataset, "front", 8, tmp_path / "frames")

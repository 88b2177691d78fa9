"""A few frames of any data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.samples import few_frames
from rslwm.types import DataError


def test_recorded_frames_are_spread_over_the_first_episodes(dataset: EpisodeDataset):
    frames = few_frames(DataConfig(uri=f"lerobot:{dataset.root}", image_size=32), 5)
    assert frames.shape == (5, 32, 32, 3)
    assert torch.equal(frames[0], torch.from_numpy(dataset.frames(0, "front")[0]))
    last = min(len(dataset), 4) - 1
    assert torch.equal(frames[-1], torch.from_numpy(dataset.frames(last, "front")[-1]))


def test_fewer_frames_than_asked_for_are_all_there_are(dataset: EpisodeDataset):
    frames = few_frames(DataConfig(uri=f"lerobot:{dataset.root}", image_size=16), 10_000)
    assert len(frames) == dataset.lengths[:4].sum()
    assert frames.shape[1:] == (16, 16, 3)


def test_the_simulator_renders_at_the_size_that_is_asked_for():
    frames = few_frames(DataConfig(image_size=48), 3)
    assert frames.shape == (3, 48, 48, 3)
    assert len(np.unique(frames.numpy())) > 50


def test_an_rlds_folder_is_read_where_it_lies(bridge: Path):
    data = DataConfig(uri=f"rlds:{bridge}", camera="image_1", image_size=32)
    assert few_frames(data, 6).shape == (6, 32, 32, 3)
    with pytest.raises(DataError, match="no camera 'wrist'"):
        few_frames(DataConfig(uri=f"rlds:{bridge}", camera="wrist"), 6)

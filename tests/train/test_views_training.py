"""Encoders, adapters and decoders learn from every camera, one view at a time."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rslwm.data.corpus import Corpus
from rslwm.train.latents import FramePairs, StoredFrames, sample_frames
from two_views import SIZE, open_corpus, write_dataset


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    """The same episodes as the first camera sees them, and as both do."""
    root = tmp_path_factory.mktemp("views")
    dataset = write_dataset(root / "set")
    return tuple(open_corpus(dataset, cameras, root / cameras) for cameras in ("front", "front,side"))


def swapped(frames: Tensor) -> bool:
    """Whether this is the second camera, which sees the faint gradient of the picture upside down."""
    column = frames.float().mean((-2, -1))
    return bool(column[..., 0].mean() > column[..., -1].mean())


def test_both_frames_of_a_pair_are_one_cameras_and_every_camera_is_drawn(one_and_two: tuple[Corpus, Corpus]) -> None:
    batch = FramePairs(one_and_two[1], (2, 6), 0, features=one_and_two[1].frames)(0, 32)
    assert batch.frames.shape == (32, 2, SIZE, SIZE, 3)
    sides = [(swapped(first), swapped(second)) for first, second in batch.frames]
    assert set(sides) == {(False, False), (True, True)}
    assert batch.features is not None
    torch.testing.assert_close(batch.features / 255, batch.frames)


def test_a_second_camera_changes_neither_episodes_nor_times(one_and_two: tuple[Corpus, Corpus]) -> None:
    """So the draws of a single camera are what they were before there could be two."""
    one, two = (FramePairs(corpus, (2, 6), 0)(3, 32) for corpus in one_and_two)
    assert one.instructions == two.instructions
    of_the_first = [not swapped(pair) for pair in two.frames]
    assert torch.equal(two.frames[of_the_first], one.frames[of_the_first])


def test_stored_latents_and_pixels_are_of_the_same_view(one_and_two: tuple[Corpus, Corpus]) -> None:
    stored = StoredFrames(one_and_two[1], one_and_two[1].frames, 0, "batch")
    latents, places = stored(0, 32)
    assert latents.shape == (32, 1, SIZE, SIZE, 3)
    torch.testing.assert_close(latents / 255, stored.pixels(places))
    assert [int(swapped(frame)) for frame in latents] == places[:, 2].tolist()
    assert set(places[:, 2]) == {0, 1}
    alone = StoredFrames(one_and_two[0], one_and_two[0].frames, 0, "batch")(0, 32)[1]
    np.testing.assert_array_equal(alone[:, :2], places[:, :2])


def test_sampled_frames_show_all_views(one_and_two: tuple[Corpus, Corpus]) -> None:
    frames = sample_frames(one_and_two[1], 8)
    assert frames.shape == (4, SIZE, 2 * SIZE, 3)
    assert [swapped(half) for half in frames.chunk(2, 2)] == [False, True]

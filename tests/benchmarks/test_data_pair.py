"""Made-up episodes as videos, the straightforward feed and encoder, and what they are compared with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.data import Data
from benchmarks.straightforward.encoder import ViT, ViTConfig
from benchmarks.straightforward.feed import VideoFeed
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rslwm.bench.world_model import SPEC
from rslwm.compute import generator
from rslwm.serialisation import ConfigError
from tiny_video import TINY

BENCH = Data(**TINY, batch=3, batches=2, encoded=2, rounds=2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoFeed:
    return BENCH.videos(tmp_path_factory.mktemp("videos"))


def test_a_clip_of_video_is_where_its_window_says(videos: VideoFeed):
    places = np.array([[1, 3], [0, 0], [1, 4]])
    decoded = videos.decode(places).numpy().astype(int)
    for clip, (episode, start) in zip(decoded, places.tolist(), strict=True):
        true = BENCH.moving_picture(episode)[start : start + BENCH.frames].astype(int)
        assert np.abs(clip - true).mean() < 4


def test_the_picture_moves():
    still = [np.abs(np.diff(BENCH.moving_picture(i).astype(int), axis=0)).mean() < 2 for i in range(8)]
    assert not all(still)


def test_both_feeds_have_the_same_clips_to_draw_from(videos: VideoFeed, tmp_path: Path):
    clips = BENCH.clips(tmp_path)
    windows = clips.windows(range(BENCH.episodes))
    assert len(windows) == BENCH.episodes * (BENCH.length - BENCH.frames + 1)
    batch = clips.sample(windows, 5, generator(0, "test"))
    assert videos.latents(batch.windows, BENCH.vit()).shape == batch.x.shape == (5, 3, 4, 4, 6)
    assert batch.actions.abs().max() <= 1
    assert batch.actions.shape == (5, 2, SPEC.dims)


def test_the_encoder_sees_a_frame_at_a_time():
    encoder = BENCH.vit()
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), generator=generator(0, "test"), dtype=torch.uint8)
    latents = encoder.encode(frames)
    assert latents.shape == (2, 3, 4, 4, 6)
    torch.testing.assert_close(latents[1:, 2:], encoder.encode(frames[1:, 2:]))
    assert not torch.allclose(latents[0, 0], latents[0, 1])


def test_the_flops_of_the_encoder_are_those_of_its_products():
    encoder = BENCH.vit()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        encoder.encode(torch.zeros(1, 3, 32, 32, 3, dtype=torch.uint8))
    projection = 2 * BENCH.grid**2 * BENCH.encoder.width * BENCH.channels
    assert 3 * encoder.frame_flops == counter.get_total_flops() - 3 * projection


def test_the_default_encoder_has_the_size_of_vit_l():
    with torch.device("meta"):
        encoder = ViT(ViTConfig(), 16, 96, torch.bfloat16)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(304e6, rel=0.005)


def test_patches_that_dont_give_the_grid_are_refused():
    with pytest.raises(ConfigError, match=r"encoder\.patch 8 cuts 32 px into 4 a side, but the grid is 5"):
        replace(BENCH, grid=5).vit()


def test_every_part_of_the_straightforward_feed_is_compared(tmp_path: Path):
    whole, decode, encode = BENCH.compare(tmp_path)
    assert [c.baseline.name for c in (whole, decode, encode)] == ["decode and encode", "decode alone", "encode alone"]
    for comparison in (whole, decode, encode):
        assert (comparison.ours.items, comparison.baseline.items, len(comparison.ratios)) == (6, 2, 2)
    assert whole.baseline.flops == encode.baseline.flops == 2 * 3 * BENCH.vit().frame_flops
    assert decode.baseline.flops is None

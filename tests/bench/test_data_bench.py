"""Made-up footage, the straightforward feed and encoder, and `rslwm bench data` at a tiny size."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rslwm.bench.config import DataBenchConfig, FootageConfig
from rslwm.bench.data import measure
from rslwm.bench.footage import SPEC, Footage, moving_picture, write_footage
from rslwm.bench.straightforward.encoder import ViT
from rslwm.cli.main import main
from rslwm.compute import ComputeConfig, generator
from rslwm.serialisation import ConfigError
from tiny_footage import TINY, flags


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    return write_footage(TINY, tmp_path_factory.mktemp("footage"))


def test_a_clip_of_video_is_where_its_window_says(footage: Footage):
    places = np.array([[1, 3], [0, 0], [1, 4]])
    decoded = footage.videos.decode(places).numpy().astype(int)
    for clip, (episode, start) in zip(decoded, places.tolist(), strict=True):
        true = moving_picture(TINY, episode)[start : start + TINY.frames].astype(int)
        assert np.abs(clip - true).mean() < 4


def test_the_picture_moves():
    still = [np.abs(np.diff(moving_picture(TINY, i).astype(int), axis=0)).mean() < 2 for i in range(8)]
    assert not all(still)


def test_both_feeds_have_the_same_clips_to_draw_from(footage: Footage):
    assert len(footage.windows) == TINY.episodes * (TINY.length - TINY.frames + 1)
    batch = footage.clips.sample(footage.windows, 5, generator(0, "test"))
    encoded = footage.videos.latents(batch.windows, ViT(TINY, torch.float32))
    assert encoded.shape == batch.x.shape == (5, 3, 4, 4, 6)
    assert batch.actions.abs().max() <= 1
    assert batch.actions.shape == (5, 2, SPEC.dims)


def test_sizes_in_bytes_are_those_on_disk(footage: Footage):
    assert footage.clips.store.nbytes == TINY.clip_bytes / TINY.frames * TINY.episodes * TINY.length
    stored = sum(path.stat().st_size for path in footage.videos.videos)
    assert footage.videos.clip_bytes == pytest.approx(stored * TINY.frames / (TINY.episodes * TINY.length))


def test_the_encoder_sees_a_frame_at_a_time():
    encoder = ViT(TINY, torch.float32)
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), generator=generator(0, "test"), dtype=torch.uint8)
    latents = encoder.encode(frames)
    assert latents.shape == (2, 3, 4, 4, 6)
    torch.testing.assert_close(latents[1:, 2:], encoder.encode(frames[1:, 2:]))
    assert not torch.allclose(latents[0, 0], latents[0, 1])


def test_the_flops_of_the_encoder_are_those_of_its_products():
    encoder = ViT(TINY, torch.float32)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        encoder.encode(torch.zeros(1, TINY.frames, 32, 32, 3, dtype=torch.uint8))
    projection = 2 * TINY.frames * TINY.grid**2 * TINY.encoder.width * TINY.channels
    assert encoder.clip_flops == counter.get_total_flops() - projection


def test_the_default_encoder_has_the_size_of_vit_l():
    with torch.device("meta"):
        encoder = ViT(FootageConfig(), torch.bfloat16)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(304e6, rel=0.005)


def test_patches_that_dont_give_the_grid_are_refused():
    with pytest.raises(ConfigError, match=r"encoder\.patch 8 cuts 32 px into 4 a side, but the grid is 5"):
        ViT(replace(TINY, grid=5), torch.float32)


def test_every_part_of_the_straightforward_feed_is_compared(compute: ComputeConfig):
    config = DataBenchConfig(**vars(TINY), batch=3, batches=2, encoded=2, rounds=2)
    whole, decode, encode = measure(config, compute)
    assert [c.baseline.name for c in (whole, decode, encode)] == ["decode and encode", "decode alone", "encode alone"]
    for comparison in (whole, decode, encode):
        assert (comparison.ours.items, comparison.baseline.items, len(comparison.ratios)) == (6, 2, 2)
    assert whole.baseline.flops == encode.baseline.flops == 2 * ViT(TINY, torch.float32).clip_flops
    assert decode.baseline.flops is None


def test_measuring_leaves_the_number_of_threads_alone(compute: ComputeConfig):
    before = torch.get_num_threads()
    measure(DataBenchConfig(**vars(TINY), rounds=1), compute)
    assert torch.get_num_threads() == before


def test_the_command_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "data", *flags(rounds=2, threads=1), "--out", str(tmp_path)]) == 0
    assert "decode and encode" in capsys.readouterr().out
    record = json.loads((tmp_path / "data.json").read_text())
    assert len(record["comparisons"]) == 3
    assert all(c["settings"]["encoder"]["width"] == 16 for c in record["comparisons"])

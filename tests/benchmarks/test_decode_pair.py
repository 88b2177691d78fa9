"""Decoding in one batch and frame by frame."""

from pathlib import Path

import pytest
import torch
from benchmarks.decode import Decode, frame_by_frame

TINY = Decode(
    size="demo", grid=2, channels=6, image_size=32, frames=3, batch=2, steps=2, rounds=2, decoders=("sub-pixel",),
    device="cpu", dtype="float32",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["sub-pixel", pytest.param("ldm", marks=pytest.mark.slow)])
def test_frame_by_frame_gives_the_same_pixels(kind: str):
    space = TINY.decodable(kind)
    latents = TINY.clips()
    with torch.no_grad():
        frames = space.decode(latents)
        assert frames.shape == (2, 3, 32, 32, 3)
        torch.testing.assert_close(frame_by_frame(space, latents), frames, rtol=0, atol=1e-4)


def test_what_decoding_takes_is_its_share_of_rollout_and_decoding(tmp_path: Path):
    batch, skipped = TINY.compare(tmp_path)
    assert batch.ours.items == batch.baseline.items == 6
    assert batch.ours.flops == batch.baseline.flops > 0
    together = [a + b for a, b in zip(skipped.ours.seconds, batch.ours.seconds, strict=True)]
    assert skipped.baseline.seconds == together
    assert skipped.quality is not None
    (share,) = skipped.quality.values()
    assert share == pytest.approx(1 - skipped.baseline.rate / skipped.ours.rate)
    assert 0 < share < 1

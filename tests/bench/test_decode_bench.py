"""Decoding in one batch and frame by frame, and `rslwm bench decode` at a tiny size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rslwm.bench.config import DecodeBenchConfig
from rslwm.bench.decode import decoding, frame_by_frame, measure
from rslwm.bench.world import world_model
from rslwm.cli.main import main
from rslwm.compute import ComputeConfig, generator
from rslwm.latents.decoder import DecoderConfig
from rslwm.serialisation import ConfigError

TINY = DecodeBenchConfig(size="demo", grid=2, channels=6, image_size=16, frames=3, batch=2, steps=2, rounds=2)


@pytest.mark.parametrize("kind", ["sub-pixel", "ldm"])
def test_frame_by_frame_gives_the_same_pixels(kind: str, compute: ComputeConfig):
    config = replace(TINY, image_size=32)
    decoder = DecoderConfig(kind=kind, width=16, multipliers=(1, 1, 2, 2, 4))
    model = decoding(world_model(config, compute), decoder, config.image_size)
    latents = torch.randn(2, 3, 2, 2, 6, generator=generator(0, "test"))
    frames = model.decode(latents)
    assert frames.shape == (2, 3, 32, 32, 3)
    torch.testing.assert_close(frame_by_frame(model, latents), frames, rtol=0, atol=1e-4)


def test_an_unknown_decoder_is_refused_with_those_that_exist(compute: ComputeConfig):
    with pytest.raises(ConfigError, match=r"'nope' is not one of 'sub-pixel', 'ldm'"):
        measure(replace(TINY, decoders=("nope",)), compute)


def test_what_decoding_takes_is_its_share_of_rollout_and_decoding(compute: ComputeConfig):
    batch, skipped = measure(replace(TINY, decoders=("sub-pixel",)), compute)
    assert batch.ours.items == batch.baseline.items == 6
    assert batch.ours.flops == batch.baseline.flops > 0
    together = [a + b for a, b in zip(skipped.ours.seconds, batch.ours.seconds, strict=True)]
    assert skipped.baseline.seconds == together
    assert skipped.quality is not None
    (share,) = skipped.quality.values()
    assert share == pytest.approx(1 - skipped.baseline.rate / skipped.ours.rate)
    assert 0 < share < 1


def test_the_command_measures_every_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = "--size demo --grid 2 --channels 6 --image-size 16 --frames 2 --steps 1 --rounds 1 --threads 1 --dtype both"
    assert main(["bench", "decode", *words.split(), "--decoders", "sub-pixel", "--out", str(tmp_path)]) == 0
    assert "frame by frame" in capsys.readouterr().out
    comparisons = json.loads((tmp_path / "decode.json").read_text())["comparisons"]
    assert [(c["settings"]["decoder"], c["settings"]["dtype"]) for c in comparisons] == 2 * [
        ("sub-pixel", "float32")
    ] + 2 * [("sub-pixel", "bfloat16")]

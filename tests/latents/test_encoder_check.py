"""The check of an encoder finds every planted breach of the contract, and none in an encoder that keeps it."""

from dataclasses import replace

import pytest
import torch
from einops import reduce, repeat
from torch import nn

from rslwm.latents.base import Encoder, EncoderConfig, TrainableEncoder
from rslwm.latents.check import check_encoder
from rslwm.types import LatentSpec

SIZE = 32


class Sound(TrainableEncoder):
    def __init__(self, config=None, image_size=SIZE):
        super().__init__(config or EncoderConfig(), image_size)
        self.spec = LatentSpec("sound", "reconstruction", (4, 4), 3, parameters=3)
        self.gain = nn.Parameter(torch.ones(3))

    def encode(self, frames):
        return reduce(frames, "B T (h p) (w q) C -> B T h w C", "mean", p=8, q=8) * self.gain

    def loss(self, batch, generator):
        noise = torch.randn(batch.frames.shape[:2], generator=generator).mean()
        return (self.encode(batch.frames).mean() - noise).square(), {}


class WrongShape(Sound):
    def encode(self, frames):
        return super().encode(frames).movedim(-1, 2)


class NotFinite(Sound):
    def encode(self, frames):
        return super().encode(frames) / 0


class Random(Sound):
    def encode(self, frames):
        return super().encode(frames) + torch.rand(())


class LooksAhead(Sound):
    def encode(self, frames):
        return super().encode(frames).cumsum(1)


class Constant(Sound):
    def encode(self, frames):
        return super().encode(torch.ones_like(frames))


class Indivisible(Sound):
    def __init__(self):
        super().__init__(image_size=36)
        self.spec = LatentSpec("indivisible", "reconstruction", (4, 4), 3, parameters=3)

    def encode(self, frames):
        return reduce(frames, "B T (h p) (w q) C -> B T h w C", "mean", p=9, q=9)


class VectorLoss(Sound):
    def loss(self, batch, generator):
        return self.encode(batch.frames).flatten(), {}


class GlobalNoise(Sound):
    def loss(self, batch, generator):
        return (self.encode(batch.frames).mean() - torch.randn(())).square(), {}


class NoGradient(Sound):
    def loss(self, batch, generator):
        return self.encode(batch.frames).mean() * 0, {}


class OfTheBatch(Sound):
    def encode(self, frames):
        latents = super().encode(frames)
        return latents - latents[:1] / 2


class Integers(Sound):
    def encode(self, frames):
        return (255 * super().encode(frames)).round().int()


class Claims(Sound):
    def __init__(self, parameters=3, **record):
        super().__init__()
        self.spec = replace(self.spec, parameters=parameters, preprocessing=record)


class Decoding(Sound):
    decodes = True

    def decode(self, latents):
        return repeat(latents, "B T h w c -> B T (h p) (w q) c", p=8, q=8)


class DecodesTooBrightly(Decoding):
    def decode(self, latents):
        return 3 * super().decode(latents)


class DecodesHalfTheSize(Decoding):
    def decode(self, latents):
        return super().decode(latents)[:, :, ::2, ::2]


class DecodesAtRandom(Decoding):
    def decode(self, latents):
        return super().decode(latents) * torch.rand(())


class Frozen(Encoder):
    def __init__(self):
        super().__init__(EncoderConfig(), SIZE)
        self.spec = LatentSpec("frozen", "floor", (4, 4), 3)

    def encode(self, frames):
        return reduce(frames, "B T (h p) (w q) C -> B T h w C", "mean", p=8, q=8)


@pytest.mark.parametrize("encoder", [Sound, Frozen, Decoding])
def test_nothing_is_found_in_a_sound_encoder(encoder):
    report = check_encoder(encoder())
    assert report.ok
    assert report.findings == ()


@pytest.mark.parametrize(
    ("encoder", "what"),
    [
        (WrongShape, "returns (2, 3, 3, 4, 4)"),
        (NotFinite, "NaN or infinity"),
        (Random, "two calls on the same frames differ"),
        (LooksAhead, "depend on the other frames"),
        (OfTheBatch, "depend on its place in the batch"),
        (Integers, "torch.int32 latents"),
        (lambda: Claims(parameters=2), "2 parameters; encoding uses 3, and there are 3"),
        (lambda: Claims(parameters=4), "4 parameters; encoding uses 3, and there are 3"),
        (lambda: Claims(dtype="bfloat16"), "dtype bfloat16, the network's is float32"),
        (lambda: Claims(size=30), "size 30, which 4 rows"),
        (DecodesTooBrightly, "torch.float32 from"),
        (DecodesHalfTheSize, "returns (2, 3, 16, 16, 3)"),
        (DecodesAtRandom, "two calls on the same latents differ"),
        (Constant, "different frames have the same latents"),
        (Indivisible, "can't be decoded to 36 px"),
        (VectorLoss, "a tensor of shape"),
        (GlobalNoise, "two calls with the same generator differ"),
        (NoGradient, "no parameter has a gradient"),
    ],
)
def test_a_planted_defect_is_found(encoder, what):
    report = check_encoder(encoder())
    assert not report.ok
    assert what in report.findings[0].what


def test_frames_can_be_given():
    dark = torch.zeros(2, 3, SIZE, SIZE, 3)
    assert "same latents" in check_encoder(Sound(), dark).findings[0].what

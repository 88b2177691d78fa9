"""What a frame costs, against the closed form."""

import torch
import torch.nn.functional as F
from torch import nn

from rslwm.latents.base import ENCODERS, Encoder, EncoderConfig
from rslwm.types import LatentSpec
from toy_published import CHANNELS, PATCH, Toy


class Attending(Encoder):
    """Pixel rows as tokens that attend to each other, behind one linear layer."""

    def __init__(self, size: int = 16) -> None:
        super().__init__(EncoderConfig(), size)
        self.spec = LatentSpec("attending", "floor", (size, 1), 8, 3 * size * 8)
        self.embed = nn.Linear(3 * size, 8, bias=False)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        x = self.embed(frames.flatten(-2))
        return F.scaled_dot_product_attention(x, x, x)[..., None, :]


def test_a_published_network_is_counted_without_weights_both_ways():
    encoder = Toy(EncoderConfig(input_size=64), 32)
    assert encoder.weights is None
    one_way = 2 * 3 * PATCH**2 * CHANNELS * (64 // PATCH) ** 2
    assert encoder.flops() == (one_way, one_way)


def test_attention_counts():
    linear, attention = 2 * 16 * 48 * 8, 4 * 16**2 * 8
    assert Attending().flops() == (linear + attention, 0)


def test_the_frame_size_counts_for_an_encoder_that_sees_it():
    config = EncoderConfig(width=32, depth=1, heads=2)
    small, large = (ENCODERS.get("small-vae")(config, size).flops()[0] for size in (32, 64))
    assert 4 * small < large < 16 * small

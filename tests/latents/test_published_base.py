"""What every published encoder has from its base: random weights to measure with, and images a few at a time."""

import pytest
import torch

from rslwm.compute import generator
from rslwm.latents.base import EncoderConfig
from rslwm.latents.check import check_encoder
from rslwm.latents.published.base import MOST
from rslwm.latents.published.weights import MissingWeights
from toy_published import Toy

FRAMES = torch.rand(2, MOST - 7, 16, 16, 3, generator=generator(0, "frames"))


def toy() -> Toy:
    return Toy(EncoderConfig(input_size=16), 16)


def standing_in() -> Toy:
    encoder = toy()
    encoder.stand_in()
    return encoder


def test_without_weights_encoding_is_refused_until_random_ones_are_taken():
    encoder = toy()
    with pytest.raises(MissingWeights, match=r"toy\.safetensors"):
        encoder.encode(FRAMES)
    assert encoder.stand_in()
    assert encoder.encode(FRAMES).shape == (2, MOST - 7, 4, 4, 5)


def test_random_weights_repeat():
    one, two = (standing_in().encode(FRAMES[:, :2]) for _ in range(2))
    assert torch.equal(one, two)


def test_many_frames_are_encoded_and_decoded_a_few_at_a_time():
    encoder = standing_in()
    latents = encoder.encode(FRAMES)
    assert encoder.largest == MOST
    single = torch.cat([encoder.encode(clip[None]) for clip in FRAMES])
    torch.testing.assert_close(latents, single)
    torch.testing.assert_close(encoder.decode(latents), torch.cat([encoder.decode(z[None]) for z in latents]))


def test_it_keeps_the_contract_and_stays_frozen():
    encoder = standing_in()
    assert check_encoder(encoder).findings == ()
    assert not any(p.requires_grad for p in encoder.network(FRAMES.device).parameters())

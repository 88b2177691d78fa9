"""The floors: what they keep of a frame, in closed form."""

from typing import Any

import pytest
import torch

from rslwm.compute import generator
from rslwm.latents.base import EncoderConfig
from rslwm.latents.check import check_encoder
from rslwm.latents.floor import PixelOptions, ProjectionOptions, RandomProjection, RawPixels
from rslwm.serialisation import ConfigError

FRAMES = torch.rand(1, 2, 64, 64, 3, generator=generator(0, "frames"))


def pixels(samples: int = 2, size: int = 64) -> RawPixels:
    return RawPixels(EncoderConfig(), size, PixelOptions(samples))


def projection(seed: int = 0, channels: int = 16, size: int = 64) -> RandomProjection:
    return RandomProjection(EncoderConfig(channels=channels), size, ProjectionOptions(seed))


@pytest.mark.parametrize(("kind", "channels"), [(RawPixels, 12), (RandomProjection, 16)])
def test_the_grid_is_that_of_the_small_encoders(kind: Any, channels: int) -> None:
    encoder = kind(EncoderConfig(), 64)
    assert (encoder.spec.grid, encoder.spec.channels) == ((8, 8), channels)
    assert (encoder.spec.family, encoder.spec.parameters) == ("floor", 0)
    assert list(encoder.parameters()) == []
    assert check_encoder(encoder).findings == ()


@pytest.mark.parametrize("kind", [RawPixels, RandomProjection])
def test_a_patch_is_encoded_on_its_own(kind: Any) -> None:
    encoder, changed = kind(EncoderConfig(), 64), FRAMES.clone()
    changed[:, :, 8:16, 24:32] = 0
    moved = (encoder.encode(changed) != encoder.encode(FRAMES)).any(-1)
    assert moved.nonzero()[:, 2:].unique(dim=0).tolist() == [[1, 3]]


def test_channels_are_the_mean_colours_of_a_patch_s_quarters() -> None:
    frame = torch.zeros(1, 1, 64, 64, 3)
    frame[..., :4, 4:8, 1] = 1  # top right quarter of the first patch, green
    channels = pixels().encode(frame)[0, 0, 0, 0].reshape(2, 2, 3)
    expected = torch.full((2, 2, 3), -1.0)
    expected[0, 1, 1] = 1
    assert torch.equal(channels, expected)


def test_one_sample_is_the_mean_colour_of_a_patch() -> None:
    means = FRAMES.unfold(2, 8, 8).unfold(3, 8, 8).mean((-2, -1))
    torch.testing.assert_close(pixels(1).encode(FRAMES), 2 * means - 1)


def test_as_many_samples_as_pixels_lose_nothing() -> None:
    latents = pixels(8).encode(FRAMES)
    assert latents.shape[-1] == 192
    assert latents.flatten().sort().values.equal((2 * FRAMES - 1).flatten().sort().values)


def test_a_uniform_projection_keeps_the_length_of_what_it_spans() -> None:
    encoder = projection()
    torch.testing.assert_close(encoder.directions.T @ encoder.directions, torch.eye(16))
    patch = encoder.directions[:, 3].reshape(8, 8, 3)
    frame = torch.full((1, 1, 64, 64, 3), 0.5)
    frame[..., :8, :8, :] += patch / 2
    expected = torch.zeros(16)
    expected[3] = 1
    torch.testing.assert_close(encoder.encode(frame)[0, 0, 0, 0], expected, atol=1e-6, rtol=0)


def test_as_many_directions_as_values_keep_all_distances() -> None:
    a, b = projection(channels=192).encode(FRAMES)[0]
    expected = 2 * (FRAMES[0, 0] - FRAMES[0, 1]).norm()
    torch.testing.assert_close((a - b).norm(), expected)


def test_the_directions_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = projection(7).directions
    torch.manual_seed(2)
    assert torch.equal(projection(7).directions, first)
    assert not torch.equal(projection(8).directions, first)


def test_the_directions_are_kept_with_what_is_trained_on_them() -> None:
    other = projection(1)
    other.load_state_dict(projection(0).state_dict())
    assert torch.equal(other.encode(FRAMES), projection(0).encode(FRAMES))


def test_choices_are_in_the_record() -> None:
    assert pixels(4).spec.preprocessing == {"patch": 8, "samples": 4}
    assert projection(3).spec.preprocessing == {"patch": 8, "seed": 3}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pixels(3), r"raw-pixels\[samples=3\] must divide encoder\.patch, which is 8"),
        (lambda: pixels(0), r"raw-pixels\[samples=0\] must divide"),
        (lambda: pixels(size=60), r"encoder\.patch is 8, which doesn't divide frames of 60 px"),
        (lambda: projection(size=60), r"doesn't divide frames of 60 px"),
        (lambda: projection(channels=193), r"encoder\.channels is 193, but a patch of 8 px has 192 values"),
    ],
)
def test_what_can_t_be_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()

"""What a published network sees of a frame: closed forms, and what each choice of the record changes."""

from dataclasses import replace

import pytest
import torch

from rslwm.compute import generator
from rslwm.latents.published.autoencoder_kl import latent
from rslwm.latents.published.base import IMAGENET, Filter, Preprocessing

FRAMES = torch.rand(2, 8, 8, 3, generator=generator(0, "frames"))


def test_halves_take_colours_to_minus_one_and_one() -> None:
    images = Preprocessing(8)(FRAMES)
    torch.testing.assert_close(images, 2 * FRAMES.permute(0, 3, 1, 2) - 1)


def test_the_mean_colour_becomes_zero_and_one_deviation_one() -> None:
    mean, std = (torch.tensor(x) for x in IMAGENET)
    frames = torch.stack([mean, mean + std])[:, None, None].expand(2, 8, 8, 3)
    images = Preprocessing(8, *IMAGENET)(frames)
    torch.testing.assert_close(images, torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 8, 8))


@pytest.mark.parametrize("mean", [(0.5, 0.5, 0.5), IMAGENET[0]])
def test_inversion_gives_the_frames_back(mean: tuple[float, float, float]) -> None:
    preprocessing = Preprocessing(8, mean, IMAGENET[1])
    torch.testing.assert_close(preprocessing.invert(preprocessing(FRAMES), 8), FRAMES)


def test_inversion_resizes_and_stays_within_range() -> None:
    frames = Preprocessing(8).invert(3 * Preprocessing(8)(FRAMES), 20)
    assert frames.shape == (2, 20, 20, 3)
    assert (frames.min(), frames.max()) == (0, 1)


@pytest.mark.parametrize("kind", ["bicubic", "bilinear"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [4, 12])
def test_a_flat_frame_stays_flat(kind: Filter, antialias: bool, size: int) -> None:
    images = Preprocessing(size, filter=kind, antialias=antialias)(torch.full((1, 8, 8, 3), 0.75))
    torch.testing.assert_close(images, torch.full((1, 3, size, size), 0.5))


def test_antialias_averages_the_pixels_that_no_sample_hits() -> None:
    columns = (torch.arange(32) % 4 == 0).float()[None, None, :, None].expand(1, 32, 32, 3)
    smooth, sharp = (Preprocessing(8, filter="bilinear", antialias=a)(columns) for a in (True, False))
    inside = smooth[..., 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, 2 * 0.25 - 1), atol=0.1, rtol=0)
    assert sharp.eq(-1).all()  # bilinear samples lie halfway between the second and the third column of four


def test_every_choice_changes_what_the_network_sees() -> None:
    base = Preprocessing(6)
    others = [replace(base, filter="bilinear"), replace(base, antialias=False), replace(base, mean=IMAGENET[0])]
    seen = [preprocessing(FRAMES) for preprocessing in (base, *others)]
    assert all(not torch.equal(seen[0], other) for other in seen[1:])


def test_the_network_gets_the_type_it_asks_for_after_the_arithmetic() -> None:
    images = Preprocessing(6)(FRAMES, torch.bfloat16)
    assert torch.equal(images, Preprocessing(6)(FRAMES).bfloat16())


def test_the_mode_of_a_posterior_is_its_mean() -> None:
    mean, std, images = torch.randn(3, 5, 4, 2, 2, generator=generator(0, "posterior"))
    assert torch.equal(latent(mean, std, images, "mode"), mean)


def test_draws_have_the_posterior_mean_and_deviation() -> None:
    images = torch.arange(400.0)[:, None, None, None]
    z = latent(torch.full((400, 4, 5, 5), 3.0), torch.full((400, 4, 5, 5), 2.0), images, "sample")
    assert abs(z.mean() - 3) < 0.05
    assert abs(z.std() - 2) < 0.05


def test_a_draw_depends_on_its_own_image_only() -> None:
    images = torch.rand(3, 3, 4, 4, generator=generator(0, "images"))
    mean, std = torch.zeros(3, 2, 2, 2), torch.ones(3, 2, 2, 2)
    together = latent(mean, std, images, "sample")
    alone = torch.cat([latent(mean[:1], std[:1], image[None], "sample") for image in images])
    assert torch.equal(together, alone)
    assert not torch.equal(together[0], together[1])

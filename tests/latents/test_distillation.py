"""Masks, targets, assignments and the guard against collapse."""

import pytest
import torch

from rslwm.compute import generator
from rslwm.latents.small.semantic import (
    photometric,
    random_crop,
    random_mask,
    sinkhorn,
    standardise,
    variance_covariance,
)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 8), (0.6, 10), (1.0, 16)])
def test_masks_hide_exactly_their_share_of_every_row(share: float, count: int) -> None:
    mask = random_mask(50, 16, share, generator(0, "mask"))
    assert mask.sum(1).tolist() == [count] * 50


def test_masks_hide_every_place_equally_often() -> None:
    mask = random_mask(4000, 16, 0.5, generator(0, "mask")).float()
    assert (mask.mean(0) - 0.5).abs().max() < 0.03  # 4 standard deviations


def test_assignments_use_every_prototype_equally_often() -> None:
    logits = torch.randn(64, 8, generator=generator(0, "logits")) + torch.arange(8)
    q = sinkhorn(logits, 1.0, iterations=100)
    torch.testing.assert_close(q.sum(1), torch.ones(64))
    torch.testing.assert_close(q.sum(0), torch.full((8,), 8.0), rtol=1e-3, atol=0)


def test_three_iterations_undo_most_of_an_imbalance() -> None:
    logits = 0.3 * torch.randn(64, 8, generator=generator(0, "logits")) + torch.tensor([1.0] + [0.0] * 7)
    plain = (logits / 0.2).softmax(1)
    assert plain.sum(0).max() > 40
    assert sinkhorn(logits, 0.2).sum(0).max() < 12


def test_standardised_targets_hold_nothing_that_every_frame_has() -> None:
    constant = torch.randn(1, 9, 5, generator=generator(0, "constant"))
    target = torch.randn(64, 9, 5, generator=generator(0, "target"))
    standardised = standardise(target + constant)
    torch.testing.assert_close(standardised.mean(0), torch.zeros(9, 5), rtol=0, atol=1e-5)
    assert standardised.std() == pytest.approx(0.95, abs=0.03)
    assert standardise(constant.expand(64, -1, -1)).abs().max() < 1e-4


def test_the_guard_is_nearly_zero_for_independent_channels_of_deviation_one() -> None:
    tokens = 1.1 * torch.randn(4096, 8, generator=generator(0, "tokens"))
    assert variance_covariance(tokens, generator(0, "pick"), 4096) < 0.01


def test_the_guard_punishes_collapse_and_redundance() -> None:
    collapsed = torch.ones(512, 8)
    one = torch.randn(512, 1, generator=generator(0, "tokens"))
    assert variance_covariance(collapsed, generator(0, "pick")) == pytest.approx(1 - 1e-2)
    same = variance_covariance(2 * one.expand(-1, 8), generator(0, "pick"))
    variance = float((2 * one).var())
    assert same == pytest.approx(0.04 * 7 * variance**2, rel=1e-4)


def test_crops_of_the_whole_size_are_the_image() -> None:
    images = torch.rand(3, 16, 16, 3, generator=generator(0, "images"))
    torch.testing.assert_close(random_crop(images, generator(0, "crop"), smallest=1.0), images, rtol=0, atol=1e-5)


def test_crops_stay_inside_the_image() -> None:
    ramp = torch.arange(16.0).expand(16, 16)
    for side, images in ((1, ramp.T), (2, ramp)):
        crops = random_crop(images[None, ..., None].expand(64, -1, -1, 3), generator(0, "crop"))
        # Beyond the border a crop would repeat the last pixel, and the ramp would be flat there.
        assert crops.diff(dim=side).narrow(side, 1, 13).min() > 0.5 - 1e-4


def test_colour_changes_are_drawn_for_each_image_and_are_mild() -> None:
    images = torch.full((32, 4, 4, 3), 0.5)
    changed = photometric(images, generator(0, "colour"))
    assert changed.flatten(1).mean(1).unique().numel() == 32
    assert (changed - images).abs().max() < 0.08
    assert (changed == changed[:, :1, :1]).all()

"""Statistics of latents in closed form."""

import pytest
import torch

from rslwm.compute import generator
from rslwm.latents.normaliser import Normaliser, deviation, effective_rank


def latents(count: int = 4000, channels: int = 6) -> torch.Tensor:
    return torch.randn(count, 2, 2, channels, generator=generator(0, "latents"))


def test_normalised_latents_have_mean_zero_and_deviation_one() -> None:
    normaliser, z = Normaliser(6), latents() * torch.arange(1.0, 7) + 3
    normaliser.fit(z)
    flat = normaliser(z).flatten(0, -2)
    torch.testing.assert_close(flat.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.std(0), torch.ones(6))
    torch.testing.assert_close(normaliser.inverse(normaliser(z)), z)


def test_a_dead_channel_stays_finite() -> None:
    normaliser = Normaliser(2)
    normaliser.fit(torch.ones(10, 2))
    assert normaliser(torch.ones(10, 2)).abs().max() == 0


def test_independent_channels_have_full_rank() -> None:
    assert effective_rank(latents()) == pytest.approx(6, rel=1e-2)


def test_one_direction_has_rank_one() -> None:
    direction = torch.randn(6, generator=generator(0, "direction"))
    assert effective_rank(latents(channels=1) * direction) == pytest.approx(1, abs=1e-3)


def test_two_equal_directions_and_a_weaker_one_have_the_rank_of_their_entropy() -> None:
    z = latents(channels=3) * torch.tensor([1.0, 1.0, 0.5])
    shares = torch.tensor([4 / 9, 4 / 9, 1 / 9])
    assert effective_rank(z) == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())), rel=2e-2)


def test_rank_does_not_depend_on_scale_or_rotation() -> None:
    z = latents() * torch.tensor([1.0, 2, 3, 1, 1, 1])
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator(0, "rotation"))).Q
    assert effective_rank(10 * z @ rotation) == pytest.approx(effective_rank(z), rel=1e-4)


def test_what_every_frame_shares_counts_neither_for_rank_nor_for_deviation() -> None:
    background = 100 * torch.randn(1, 2, 2, 6, generator=generator(0, "background"))
    z = latents()
    assert effective_rank(z + background) == pytest.approx(effective_rank(z), rel=1e-3)
    assert deviation(z + background) == pytest.approx(1, rel=2e-2)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_constant_and_broken_latents_count_as_collapsed(value: float) -> None:
    assert effective_rank(torch.full((50, 2, 2, 6), value)) <= 1

"""Denoising diffusion with velocity targets; what the published vectors say about it is in test_dit_golden."""

from itertools import pairwise

import pytest
import torch

from rslwm.model.published.ddpm import DDPMConfig, VPrediction
from tiny import draw

OBJECTIVE = VPrediction(DDPMConfig())


def test_alphas_fall_from_data_to_noise() -> None:
    alphas = OBJECTIVE.alphas_cumprod
    assert len(alphas) == 1000
    assert (alphas.diff() < 0).all()
    assert 1 > alphas[0] > 0.999
    assert 0 < alphas[-1] < 1e-3


def test_data_and_noise_follow_from_a_noisy_frame_and_its_target() -> None:
    clean = draw(64, 3, 4, 4, 2)
    clip = OBJECTIVE.corrupt(clean, torch.Generator().manual_seed(0))
    alpha = OBJECTIVE.alphas_cumprod[(1000 * clip.levels).round().long()].float()[..., None, None, None]
    assert torch.allclose(alpha.sqrt() * clip.x - (1 - alpha).sqrt() * clip.target, clean, atol=1e-5)
    noise = (1 - alpha).sqrt() * clip.x + alpha.sqrt() * clip.target
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert torch.corrcoef(torch.stack([noise.flatten(), clean.flatten()]))[0, 1].abs() < 0.05


def test_every_frame_draws_a_step_of_its_own_and_the_loss_covers_them_all() -> None:
    clip = OBJECTIVE.corrupt(torch.zeros(2000, 3, 1, 1, 1), torch.Generator().manual_seed(0))
    steps = 1000 * clip.levels
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert steps.min() >= 0
    assert 990 < steps.max() < 999.5
    assert steps.mean() == pytest.approx(499.5, abs=12)
    assert torch.corrcoef(steps.T).triu(1).abs().max() < 0.07
    assert clip.target.shape == clip.x.shape


def test_same_generator_same_clip() -> None:
    clean = draw(2, 4, 2, 2, 5)
    first, again, other = (OBJECTIVE.corrupt(clean, torch.Generator().manual_seed(seed)).x for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_ten_steps_take_the_published_indices() -> None:
    indices = [1000 * level for level in OBJECTIVE.levels(10)]
    assert indices == pytest.approx([999, 899, 799, 699, 599, 499, 399, 299, 199, 99, -1])


def test_indices_between_two_integers_are_cut() -> None:
    """linspace(-1, 999, 4) is -1, 332.33, 665.67, 999."""
    assert [1000 * level for level in OBJECTIVE.levels(3)] == pytest.approx([999, 665, 332, -1])


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_an_exact_prediction_leads_to_the_data(steps: int) -> None:
    data, x = draw(2, 1, 4, 4, 3), draw(2, 1, 4, 4, 3, seed=2)
    for level, following in pairwise(OBJECTIVE.levels(steps)):
        alpha = float(OBJECTIVE.alphas_cumprod[round(1000 * level)])
        noise = (x - alpha**0.5 * data) / (1 - alpha) ** 0.5
        x = OBJECTIVE.move(x, alpha**0.5 * noise - (1 - alpha) ** 0.5 * data, level, following)
    assert torch.allclose(x, data, atol=1e-5)


def test_context_is_scaled_to_its_declared_step() -> None:
    context = draw(2, 3, 4, 4, 3)
    assert OBJECTIVE.context_level == pytest.approx(0.014)
    assert torch.allclose(OBJECTIVE.context(context), context * OBJECTIVE.alphas_cumprod[14].sqrt().float())

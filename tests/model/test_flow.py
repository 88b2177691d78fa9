from dataclasses import replace
from math import log

import pytest
import torch
from torch import Tensor

from rslwm.model.flow import FlowConfig, FlowMatching, NoisyClip, shift, shift_factor
from tiny import draw

CONFIG = FlowConfig(history=2, history_noise=0.1)
PAPER = replace(CONFIG, shift_base=4096.0)


def corrupt(clean: Tensor, config: FlowConfig = CONFIG, gamma: float = 1.0, seed: int = 0) -> NoisyClip:
    return FlowMatching(config, gamma).corrupt(clean, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("tokens", "channels", "gamma"),
    [
        (256, 16, 1.0),  # Cosmos, 16-channel adapter
        (256, 32, 1.414),  # VA-VAE
        (256, 64, 2.0),
        (256, 96, 2.449),
        (256, 256, 4.0),
        (256, 1024, 8.0),  # V-JEPA 2.1, Web-DINO
        (256, 1152, 8.485),  # SigLIP 2
        (64, 16, 1.0),  # SD3 VAE in patches of 2: the formula would give 0.5, the paper shifts nothing
    ],
)
def test_shift_factors_are_those_of_the_paper(tokens: int, channels: int, gamma: float) -> None:
    assert shift_factor(PAPER, tokens, channels) == pytest.approx(gamma, abs=5e-4)


def test_shift_can_be_switched_off() -> None:
    assert shift_factor(replace(PAPER, time_shift="none"), 256, 1024) == 1


def test_shift_keeps_the_ends_and_moves_a_half() -> None:
    assert shift(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == pytest.approx([0, 0.75, 1])


def test_sampling_levels_fall_from_noise_to_data_through_the_shift() -> None:
    assert FlowMatching(CONFIG, 3.0).levels(4) == pytest.approx([1, 0.9, 0.75, 0.5, 0])


def test_levels_are_logit_normal_around_the_shifted_half_and_differ_between_frames() -> None:
    levels = corrupt(torch.zeros(4000, 4, 1, 1, 1), gamma=3.0).levels
    assert not levels[:, :2].any()
    logits = torch.logit(levels[:, 2:])
    assert logits.mean() == pytest.approx(log(3), abs=0.05)
    assert logits.std() == pytest.approx(1, abs=0.05)
    assert torch.corrcoef(logits.T)[0, 1].abs() < 0.05


def test_history_augmentation_keeps_the_variance_and_can_be_switched_off() -> None:
    clean = draw(200, 3, 8, 8, 4)
    strong = corrupt(clean, replace(CONFIG, history_noise=2.0)).x[:, :2]
    assert strong.std() == pytest.approx(1, abs=0.02)
    assert not torch.allclose(strong, clean[:, :2], atol=0.1)
    assert torch.equal(corrupt(clean, replace(CONFIG, history_noise=0.0)).x[:, :2], clean[:, :2])


def test_every_history_frame_draws_its_own_normal_strength() -> None:
    """On data of zeros an augmented frame is s / sqrt(1 + s^2) times a standard normal one."""
    config = replace(CONFIG, history_noise=0.3)
    history = corrupt(torch.zeros(2000, 3, 8, 8, 4), config).x[:, :2]
    share = history.square().mean((2, 3, 4))
    strength = (share / (1 - share)).sqrt()
    assert strength.square().mean().sqrt() == pytest.approx(0.3, rel=0.05)
    assert (strength < 0.3).float().mean() == pytest.approx(0.683, abs=0.03)
    assert torch.corrcoef(strength.T)[0, 1].abs() < 0.06


def test_target_is_the_derivative_of_the_path() -> None:
    clean = draw(3, 4, 2, 2, 5)
    clip = corrupt(clean, gamma=2.0)
    t = clip.levels[:, 2:, None, None, None]
    assert torch.allclose(clip.x[:, 2:] - t * clip.target, clean[:, 2:], atol=1e-5)


def test_a_step_along_the_target_leads_along_the_path() -> None:
    clean, noise = draw(1, 1, 2, 2, 5), draw(1, 1, 2, 2, 5, seed=2)
    moved = FlowMatching(CONFIG).move(torch.lerp(clean, noise, 0.8), noise - clean, 0.8, 0.3)
    assert torch.allclose(moved, torch.lerp(clean, noise, 0.3), atol=1e-6)


def test_loss_is_zero_for_the_target_and_blind_to_the_history() -> None:
    clip = corrupt(draw(3, 4, 2, 2, 5), gamma=2.0)
    velocity = torch.cat([torch.full((3, 2, 2, 2, 5), 7.0), clip.target], 1)
    assert clip.loss(velocity) == 0
    assert clip.loss(velocity + 2) == pytest.approx(4)


def test_a_clean_frame_that_stands_for_a_velocity_is_weighted_as_that_is() -> None:
    """An output that is off by d makes a velocity that is off by d / level: the same loss."""
    clean = draw(3, 4, 2, 2, 5)
    flow = FlowMatching(replace(CONFIG, prediction="data"), 2.0)
    clip = flow.corrupt(clean, torch.Generator().manual_seed(0))
    other, level = corrupt(clean, gamma=2.0), clip.levels[:, 2:]
    assert torch.equal(clip.x, other.x)
    assert (level > 0.1).all()
    output = clean + draw(3, 4, 2, 2, 5, seed=5)
    told = [flow.velocity(clip.x[b, 2 + f], output[b, 2 + f], float(level[b, f])) for b in range(3) for f in range(2)]
    velocity = torch.stack(told).unflatten(0, (3, 2))
    assert clip.loss(output) == pytest.approx(float((velocity - other.target).square().mean()), rel=1e-4)


def test_motion_weighs_what_moves_and_leaves_the_mean_weight_at_one() -> None:
    clean = torch.zeros(2, 4, 2, 2, 5)
    clean[:, 2:, 0, 0] = 1.0  # one of four places moves, at the first future frame
    clip = corrupt(clean, replace(CONFIG, motion_weight=2.0))
    assert clip.weight is not None
    assert clip.weight.mean() == pytest.approx(1)
    moving, still = clip.weight[0, 0, 0, 0], clip.weight[0, 0, 1, 1]
    assert float(moving / still) == pytest.approx(1 + 2 / (1 / 8))  # its motion is eight times the mean


def test_same_generator_same_clip() -> None:
    first, again, other = (corrupt(torch.zeros(2, 4, 2, 2, 5), seed=seed).x for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_clip_without_future_is_refused() -> None:
    with pytest.raises(ValueError, match=r"flow\.history = 2"):
        corrupt(torch.zeros(1, 2, 2, 2, 5))

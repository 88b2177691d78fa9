from dataclasses import replace
from math import log

import pytest
import torch

from rslwm.config import FlowConfig
from rslwm.model.flow import corrupt, shift, shift_factor

CONFIG = FlowConfig(history=2, history_noise=0.1)
PAPER = replace(CONFIG, shift_base=4096.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_levels_are_logit_normal_around_the_shifted_half_and_differ_between_frames() -> None:
    levels = corrupt(torch.zeros(4000, 4, 1, 1, 1), CONFIG, 3.0, generator()).levels
    assert not levels[:, :2].any()
    logits = torch.logit(levels[:, 2:])
    assert logits.mean() == pytest.approx(log(3), abs=0.05)
    assert logits.std() == pytest.approx(1, abs=0.05)
    assert torch.corrcoef(logits.T)[0, 1].abs() < 0.05


def test_history_augmentation_keeps_the_variance_and_uses_one_strength_a_clip() -> None:
    clean = torch.randn(200, 3, 8, 8, 4, generator=generator(1))
    strong = replace(CONFIG, history_noise=2.0)
    history = corrupt(clean, strong, 1.0, generator()).x[:, :2]
    assert history.std() == pytest.approx(1, abs=0.02)
    distance = (history - clean[:, :2]).square().mean((2, 3, 4))
    assert torch.corrcoef(distance.T)[0, 1] > 0.95
    assert torch.equal(corrupt(clean, replace(CONFIG, history_noise=0.0), 1.0, generator()).x[:, :2], clean[:, :2])


def test_target_is_the_derivative_of_the_path() -> None:
    clean = torch.randn(3, 4, 2, 2, 5, generator=generator(1))
    clip = corrupt(clean, CONFIG, 2.0, generator())
    t = clip.levels[:, 2:, None, None, None]
    assert torch.allclose(clip.x[:, 2:] - t * clip.target, clean[:, 2:], atol=1e-5)


def test_loss_is_zero_for_the_target_and_blind_to_the_history() -> None:
    clip = corrupt(torch.randn(3, 4, 2, 2, 5, generator=generator(1)), CONFIG, 2.0, generator())
    velocity = torch.cat([torch.full((3, 2, 2, 2, 5), 7.0), clip.target], 1)
    assert clip.loss(velocity) == 0
    assert clip.loss(velocity + 2) == pytest.approx(4)


def test_same_generator_same_clip() -> None:
    clean = torch.zeros(2, 4, 2, 2, 5)
    first, again, other = (corrupt(clean, CONFIG, 1.0, generator(seed)).x for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_clip_without_future_is_refused() -> None:
    with pytest.raises(ValueError, match=r"flow\.history = 2"):
        corrupt(torch.zeros(1, 2, 2, 2, 5), CONFIG, 1.0, generator())

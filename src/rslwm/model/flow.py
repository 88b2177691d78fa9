"""Flow matching on the linear path z_t = (1 - t) z + t e, target e - z (arXiv 2605.06388 section 4).

Every future frame draws its own noise level (diffusion forcing); history frames stay clean but for light augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from rslwm.config import FlowConfig


def shift_factor(config: FlowConfig, tokens: int, channels: int) -> float:
    """gamma = sqrt(tokens * channels / shift_base), at least 1.

    The paper's sqrt((256 / p^2) d / 4096) with the actual number of tokens after patching; channels are the latent's
    own. Below 1 it would favour nearly clean frames; there (the paper's VAE row: 0.5) the paper leaves the shift out.
    """
    return 1.0 if config.time_shift == "none" else max(1.0, sqrt(tokens * channels / config.shift_base))


def shift(levels: Tensor, gamma: float) -> Tensor:
    """Move noise levels in [0, 1] towards 1: gamma t / (1 + (gamma - 1) t)."""
    return gamma * levels / (1 + (gamma - 1) * levels)


@dataclass(frozen=True)
class NoisyClip:
    """A clip on its way to noise; the target covers the future frames only."""

    x: Tensor
    """(B, T, h, w, C)"""
    levels: Tensor
    """(B, T), zero for the history"""
    target: Tensor
    """(B, T - history, h, w, C)"""

    def loss(self, velocity: Tensor) -> Tensor:
        """Mean squared error of a velocity (B, T, h, w, C) on the future frames."""
        future = velocity[:, -self.target.shape[1] :].float()
        return (future - self.target).square().mean()


def corrupt(latents: Tensor, config: FlowConfig, gamma: float, generator: torch.Generator) -> NoisyClip:
    """Noise a clean clip (B, T, h, w, C); all random numbers come from ``generator``.

    Future frames get independent logit-normal levels passed through the shift. The history becomes
    (z + s n) / sqrt(1 + s^2) with s uniform in [0, history_noise], one s a clip.

    Raises:
        ValueError: the clip has no frame after the history.
    """
    if latents.shape[1] <= config.history:
        raise ValueError(
            f"a clip of {latents.shape[1]} frames has no future frame behind flow.history = {config.history}; "
            "cut longer clips or shorten the history"
        )

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, device=generator.device).to(like)

    history, future = latents.float().split([config.history, latents.shape[1] - config.history], 1)
    levels = shift(draw(future[:, :, 0, 0, 0]).sigmoid(), gamma)
    t, noise = levels[:, :, None, None, None], draw(future)
    s = config.history_noise * torch.rand(len(latents), generator=generator, device=generator.device).to(history)
    s = s[:, None, None, None, None]
    history = (history + s * draw(history)) / (1 + s.square()).sqrt()
    return NoisyClip(
        x=torch.cat([history, torch.lerp(future, noise, t)], 1),
        levels=torch.cat([levels.new_zeros(len(latents), config.history), levels], 1),
        target=noise - future,
    )

"""Flow matching on the linear path z_t = (1 - t) z + t e, target e - z (arXiv 2605.06388 section 4).

Every future frame draws its own noise level (diffusion forcing); history frames stay clean but for light augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor

LEAST_LEVEL = 0.1
"""Noise level below which errors of predicted clean frames aren't weighted more."""


@dataclass(frozen=True)
class FlowConfig:
    """Flow matching: the transformer learns the velocity from data to noise, at its own noise level in every future
    frame of a clip, behind a few clean frames of history."""

    history: int = 2
    """Frames at the beginning of a training clip that stay clean; the loss is taken on those after them."""
    history_noise: float = 0.06
    """History frames are augmented with a little noise, so that rollouts bear their own errors. Its strength is drawn
    for every frame from a normal distribution of this standard deviation (the paper's code: 0.3)."""
    context_level: float = 0.0
    """Noise level between 0 and 1 that the transformer is told of context frames when it samples; none is added."""
    time_shift: Literal["dimension", "none"] = "dimension"
    """Whether noise levels are shifted towards noise by the square root of tokens x channels (paper section 4), since
    wide latents survive more noise, or not at all."""
    prediction: Literal["velocity", "data"] = "velocity"
    """What the transformer outputs: the velocity from data to noise, as in the paper, or the clean frame, from which
    the velocity follows; then narrow layers need not carry the noise (Li and He, arXiv 2511.13720)."""
    motion_weight: float = 0.0
    """How much more a position counts in the loss where the clip moves: 1 plus this times its change since the last
    frame, relative to the mean of all. It prefers futures in which more happens; 0 weighs all alike (the paper)."""
    shift_base: float = 16.0
    """Tokens x channels up to which nothing is shifted (the paper: 4096). Small grids are learned from nearly clean
    frames in no time, actions only from noisy ones: a strong shift is what makes a small model heed them."""


def shift_factor(config: FlowConfig, tokens: int, channels: int) -> float:
    """gamma = sqrt(tokens * channels / shift_base), at least 1.

    The paper's sqrt((256 / p^2) d / 4096) with the actual number of tokens after patching; channels are the latent's
    own. Below 1 it would favour nearly clean frames; there (the paper's VAE row: 0.5) the paper leaves the shift out.
    """
    return 1.0 if config.time_shift == "none" else max(1.0, sqrt(tokens * channels / config.shift_base))


def shift(levels: Tensor, gamma: float) -> Tensor:
    """Move noise levels in [0, 1] towards 1: gamma t / (1 + (gamma - 1) t)."""
    return gamma * levels / (1 + (gamma - 1) * levels)


def draw_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape and on the device of x."""
    return torch.randn(x.shape, generator=generator, device=generator.device).to(x)


@dataclass(frozen=True)
class NoisyClip:
    """A clip on its way to noise; the target covers its last frames, those that the loss is taken on."""

    x: Tensor
    """(B, T, h, w, C)"""
    levels: Tensor
    """(B, T), what the transformer is told"""
    target: Tensor
    """(B, T', h, w, C)"""
    weight: Tensor | None = None
    """What an error counts, broadcastable to the target; None is 1 everywhere."""

    def loss(self, output: Tensor) -> Tensor:
        """Mean squared error of the transformer's output (B, T, h, w, C), weighted."""
        error = (output[:, -self.target.shape[1] :].float() - self.target).square()
        return error.mean() if self.weight is None else (self.weight * error).mean()


@dataclass(frozen=True)
class FlowMatching:
    """The paper's objective, the velocity e - z, predicted as it is or by way of the clean frame z."""

    config: FlowConfig
    gamma: float = 1.0
    """Shift of the noise levels, see :func:`shift_factor`."""

    def corrupt(self, latents: Tensor, generator: torch.Generator) -> NoisyClip:
        """Noise a clean clip (B, T, h, w, C); all random numbers come from ``generator``.

        Future frames get independent logit-normal levels passed through the shift. Each history frame becomes
        (z + s n) / sqrt(1 + s^2) with s from a normal distribution of standard deviation ``history_noise``. Raises
        ValueError if the clip has no frame after the history.
        """
        split = self.config.history
        if latents.shape[1] <= split:
            clip = f"a clip of {latents.shape[1]} frames has no future frame behind flow.history = {split}"
            raise ValueError(f"{clip}; cut longer clips or shorten the history")
        history, future = latents.float().split([split, latents.shape[1] - split], 1)
        levels = shift(draw_like(future[..., 0, 0, 0], generator).sigmoid(), self.gamma)
        noise = draw_like(future, generator)
        s = self.config.history_noise * draw_like(history[..., :1, :1, :1], generator)
        weight = self._weight(levels, latents.float()[:, split - 1 :])
        history = (history + s * draw_like(history, generator)) / (1 + s.square()).sqrt()
        x = torch.cat([history, torch.lerp(future, noise, levels[..., None, None, None])], 1)
        target = future if self.config.prediction == "data" else noise - future
        return NoisyClip(x, torch.cat([levels.new_zeros(history.shape[:2]), levels], 1), target, weight)

    def _weight(self, levels: Tensor, clean: Tensor) -> Tensor | None:
        """Of errors of T' frames: clean frames predicted at levels (B, T') stand for velocities, whose errors are
        1 / level times theirs, and what moves from one of the ``clean`` frames (B, 1 + T', h, w, C) to the next counts
        more."""
        weight = None
        if self.config.prediction == "data":
            weight = levels.clamp_min(LEAST_LEVEL).square().reciprocal()[..., None, None, None]
        if self.config.motion_weight:
            moved = clean.diff(dim=1).square().mean(-1, keepdim=True).sqrt()
            counts = 1 + self.config.motion_weight * moved / moved.mean((1, 2, 3, 4), keepdim=True).clamp_min(1e-3)
            counts = counts / counts.mean()
            weight = counts if weight is None else weight * counts
        return weight

    def levels(self, steps: int) -> list[float]:
        """The noise levels from pure noise to data: linspace(1, 0, steps + 1) passed through the shift."""
        return shift(torch.linspace(1, 0, steps + 1, dtype=torch.float64), self.gamma).tolist()

    def velocity(self, x: Tensor, output: Tensor, level: float) -> Tensor:
        """What the transformer's output for x at a noise level above 0 says of the velocity."""
        return (x - output) / level if self.config.prediction == "data" else output

    def move(self, x: Tensor, velocity: Tensor, level: float, following: float) -> Tensor:
        """One step from a noise level to the following one: Euler's."""
        return x + (following - level) * velocity

    @property
    def context_level(self) -> float:
        """Noise level that the transformer is told of context frames when it samples."""
        return self.config.context_level

    def context(self, latents: Tensor) -> Tensor:
        """What it sees of them."""
        return latents

"""Denoising diffusion with velocity targets and DDIM steps: what the paper's code trains by default.

With cumulative alpha a, z_a = sqrt(a) z + sqrt(1 - a) e and the target is sqrt(a) e - sqrt(1 - a) z (Salimans and Ho,
arXiv 2202.00512). All frames draw independent noise; there is no clean history.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import torch
from torch import Tensor

from rslwm.model.flow import NoisyClip, draw_like


@dataclass(frozen=True)
class DDPMConfig:
    """Denoising diffusion with velocity targets and independent noise on all frames, as in the paper's code."""

    timesteps: int = 1000
    """Diffusion steps between data and noise in training; sampling takes a few of them."""
    schedule_start: float = -3.0
    """Where the noise schedule begins on a sigmoid curve."""
    schedule_end: float = 3.0
    """Where the noise schedule ends on that curve."""
    schedule_tau: float = 1.0
    """Temperature of the curve: the larger, the more even the schedule."""
    context_step: int = 14
    """Diffusion step that the transformer is told of context frames when it samples. They are scaled as at that step,
    but get no noise."""


EMBEDDING_SCALE = 1000
"""The transformer multiplies its noise levels by this; diffusion steps have to arrive unscaled."""


@dataclass(frozen=True)
class VPrediction:
    """Noise levels are diffusion steps divided by 1000; -1/1000 is clean data."""

    config: DDPMConfig

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """(timesteps,) float64: the sigmoid schedule (Jabri et al., arXiv 2212.11972)."""
        c = self.config
        t = torch.linspace(0, 1, c.timesteps + 1, dtype=torch.float64)
        start, end = (torch.tensor(v / c.schedule_tau).double().sigmoid() for v in (c.schedule_start, c.schedule_end))
        path = ((t * (c.schedule_end - c.schedule_start) + c.schedule_start) / c.schedule_tau).sigmoid()
        alphas = (end - path) / (end - start)
        betas = 1 - alphas[1:] / alphas[:-1]
        return (1 - betas.clamp(0, 0.999)).cumprod(0)

    def corrupt(self, latents: Tensor, generator: torch.Generator) -> NoisyClip:
        """Every frame to a diffusion step of its own."""
        latents = latents.float()
        steps = torch.randint(self.config.timesteps, latents.shape[:2], generator=generator, device=generator.device)
        alpha = self.alphas_cumprod[steps.cpu()].to(latents)[..., None, None, None]
        signal, scale, noise = alpha.sqrt(), (1 - alpha).sqrt(), draw_like(latents, generator)
        levels = steps.to(latents) / EMBEDDING_SCALE
        return NoisyClip(signal * latents + scale * noise, levels, signal * noise - scale * latents)

    def levels(self, steps: int) -> list[float]:
        """linspace(-1, timesteps - 1, steps + 1) cut to integers, backwards."""
        indices = torch.linspace(-1, self.config.timesteps - 1, steps + 1, dtype=torch.float64).long()
        return (indices.flip(0) / EMBEDDING_SCALE).tolist()

    def velocity(self, x: Tensor, output: Tensor, level: float) -> Tensor:
        """The output is one."""
        return output

    def move(self, x: Tensor, velocity: Tensor, level: float, following: float) -> Tensor:
        """One deterministic DDIM step."""
        signal, scale = self._amounts(level)
        data, noise = signal * x - scale * velocity, scale * x + signal * velocity
        signal, scale = self._amounts(following)
        return signal * data + scale * noise

    @property
    def context_level(self) -> float:
        return self.config.context_step / EMBEDDING_SCALE

    def context(self, latents: Tensor) -> Tensor:
        """Scaled as at the context's step, without noise."""
        return self._amounts(self.context_level)[0] * latents

    def _amounts(self, level: float) -> tuple[float, float]:
        """Shares of data and of noise in a frame at this level."""
        step = round(level * EMBEDDING_SCALE)
        alpha = 1.0 if step < 0 else float(self.alphas_cumprod[step])
        return sqrt(alpha), sqrt(1 - alpha)

"""Per-channel normalisation of latents, and the statistics that tell a healthy space from a collapsed one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normaliser(nn.Module):
    """(z - mean) / std per channel, with statistics of the training episodes only."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def fit(self, latents: Tensor) -> None:
        """Take the statistics of (..., C)."""
        flat = latents.float().flatten(0, -2)
        self.mean.copy_(flat.mean(0))
        self.std.copy_(flat.std(0).clamp_min(1e-6))

    def forward(self, latents: Tensor) -> Tensor:
        return (latents - self.mean) / self.std

    def inverse(self, latents: Tensor) -> Tensor:
        return latents * self.std + self.mean


def centred(latents: Tensor) -> Tensor:
    """(N, h, w, C) without the mean over N at each position: what differs from frame to frame, as (N*h*w, C)."""
    latents = latents.float()
    return (latents - latents.mean(0)).flatten(0, -2)


def effective_rank(latents: Tensor) -> float:
    """Exponential of the entropy of the normalised covariance spectrum of (N, h, w, C), position means removed: between
    1 (all variation along one direction, or none: collapsed) and C (Roy and Vetterli, 2007); 0 if a latent is not
    finite."""
    x = centred(latents)
    if not x.isfinite().all():
        return 0.0
    spectrum = torch.linalg.eigvalsh((x.T @ x).double() / len(x)).clamp_min(0)
    share = spectrum / spectrum.sum().clamp_min(1e-30)
    return float(torch.exp(-(share * (share + 1e-12).log()).sum()))


def deviation(latents: Tensor) -> float:
    """Mean over channels of the standard deviation of (N, h, w, C), position means removed."""
    return float(centred(latents).std(0).mean())

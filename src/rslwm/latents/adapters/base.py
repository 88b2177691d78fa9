"""Adapters: a wide space compressed to a few channels, and back, one frame at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.optim import OptimConfig


@dataclass(frozen=True)
class AdapterConfig:
    """Adapters (NAME+16): what compresses the channels of a wide semantic space to a few."""

    kind: Literal["svae", "mlp", "pca"] = "svae"
    """svae is the paper's (section 5), a variational autoencoder of transformer blocks. The others are baselines for
    it: mlp compresses each token by two layers, without attention and noise; pca takes the principal components and
    needs no training."""
    blocks: int = 1
    """Number of transformer blocks in the encoder of an svae adapter, and as many in its decoder."""
    heads: int = 4
    """Number of attention heads in the blocks of an svae adapter; it must divide the channels of the native space."""
    hidden: int = 0
    """Width of the hidden layers of an svae or mlp adapter. 0 makes them as wide as the native space."""
    kl_weight: float = 1e-4
    """Weight in the loss of an svae adapter of the divergence of its latents' distribution from a standard normal."""
    cosine_weight: float = 1.0
    """Weight in the loss of svae and mlp adapters of the angle between restored and original features."""
    spectral_weight: float = 0.01
    """Weight in the loss of svae and mlp adapters of the difference between the Fourier magnitudes of restored and
    original features, taken along the tokens."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=150, lr=1e-3))


class Adapter(nn.Module):
    """Features of the native space's D = ``width`` channels to d = ``channels`` and back, token grid unchanged."""

    label: ClassVar[str]
    """What records and messages call it."""
    trainable: ClassVar[bool] = True
    """By gradients; else it is fitted in closed form."""

    def __init__(self, config: AdapterConfig, width: int, channels: int) -> None:
        super().__init__()
        self.config, self.width, self.channels = config, width, channels
        self.hidden = config.hidden or width

    def compress(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, d)."""
        raise NotImplementedError

    def reconstruct(self, z: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, D)."""
        raise NotImplementedError

    @property
    def encoder_tensors(self) -> list[Tensor]:
        """What :meth:`compress` computes with."""
        raise NotImplementedError

    def encode(self, features: Tensor) -> Tensor:
        """(B, T, h, w, D) -> (B, T, h, w, d), without noise."""
        z = self.compress(rearrange(features, "B T h w D -> (B T) (h w) D"))
        return rearrange(z.float(), "(B T) (h w) d -> B T h w d", B=len(features), h=features.shape[2])

    def decode(self, latents: Tensor) -> Tensor:
        """(B, T, h, w, d) -> (B, T, h, w, D)."""
        out = self.reconstruct(rearrange(latents, "B T h w d -> (B T) (h w) d"))
        return rearrange(out, "(B T) (h w) D -> B T h w D", B=len(latents), h=latents.shape[2])

    def loss(self, features: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to minimise and the terms to log, all scalars, if the adapter is ``trainable``, of native features
        (B, T, h, w, D) when this ``fraction`` of training is done."""
        raise NotImplementedError

    def fit(self, features: Iterable[Tensor]) -> dict[str, float]:
        """Fit one that isn't ``trainable`` to streamed (..., D) features; returns figures of the fit."""
        raise NotImplementedError


def reconstruction_terms(config: AdapterConfig, out: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Squared error, cosine distance and the difference of the spectra's magnitudes along the tokens (B, N, D)."""
    spectrum = torch.fft.rfft(out, dim=1).abs() - torch.fft.rfft(target, dim=1).abs()
    return {
        "mse": F.mse_loss(out, target),
        "cosine": config.cosine_weight * (1 - F.cosine_similarity(out, target, dim=-1)).mean(),
        "spectral": config.spectral_weight * spectrum.abs().mean(),
    }

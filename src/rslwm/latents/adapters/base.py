"""Adapters: a wide space compressed to a few channels, and back, one frame at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.optim import OptimConfig


@dataclass(frozen=True)
class AdapterConfig:
    """Adapter: a wide semantic space compressed to a few channels."""

    kind: Literal["svae", "mlp", "pca"] = "svae"
    """svae is the paper's (section 5); its baselines: mlp, on each token alone and without noise; pca, closed form."""
    blocks: int = 1
    """svae: transformer blocks of either half."""
    heads: int = 4
    """svae: attention heads; they divide the channels of the native space."""
    hidden: int = 0
    """svae, mlp: width of the hidden layers; 0 is that of the native space."""
    kl_weight: float = 1e-4
    cosine_weight: float = 1.0
    spectral_weight: float = 0.01
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=150, lr=1e-3))


class Adapter(nn.Module):
    """Features of D channels to d channels and back, token grid unchanged.

    Args:
        width: D, channels of the native space.
        channels: d, channels of the compressed space.
    """

    label: ClassVar[str]
    """What records and messages call it."""

    def __init__(self, config: AdapterConfig, width: int, channels: int) -> None:
        super().__init__()
        self.config, self.width, self.channels = config, width, channels

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
        B, _, h, _, _ = features.shape
        z = self.compress(rearrange(features, "B T h w D -> (B T) (h w) D"))
        return rearrange(z.float(), "(B T) (h w) d -> B T h w d", B=B, h=h)

    def decode(self, latents: Tensor) -> Tensor:
        """(B, T, h, w, d) -> (B, T, h, w, D)."""
        B, _, h, _, _ = latents.shape
        out = self.reconstruct(rearrange(latents, "B T h w d -> (B T) (h w) d"))
        return rearrange(out, "(B T) (h w) D -> B T h w D", B=B, h=h)


class TrainableAdapter(Adapter):
    """An adapter that gradients train."""

    @property
    def hidden(self) -> int:
        """Width of the hidden layers."""
        return self.config.hidden or self.width

    def loss(self, features: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to minimise and the terms to log, all scalars.

        Args:
            features: (B, T, h, w, D), the native space.
            fraction: share of training done.
        """
        raise NotImplementedError


def reconstruction_terms(config: AdapterConfig, out: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Squared error, cosine distance and the difference of the spectra's magnitudes along the tokens (B, N, D)."""
    spectrum = torch.fft.rfft(out, dim=1).abs() - torch.fft.rfft(target, dim=1).abs()
    return {
        "mse": F.mse_loss(out, target),
        "cosine": config.cosine_weight * (1 - F.cosine_similarity(out, target, dim=-1)).mean(),
        "spectral": config.spectral_weight * spectrum.abs().mean(),
    }

"""What an S-VAE must beat: the same losses through two layers a token, without noise and without attention."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.adapters.base import Adapter, AdapterConfig, reconstruction_terms


class MLP(Adapter):
    """Two layers to d channels and two back, each token alone."""

    label = "MLP"

    def __init__(self, config: AdapterConfig, width: int, channels: int) -> None:
        super().__init__(config, width, channels)
        self.encoder = nn.Sequential(nn.Linear(width, self.hidden), nn.GELU(), nn.Linear(self.hidden, channels))
        self.decoder = nn.Sequential(nn.Linear(channels, self.hidden), nn.GELU(), nn.Linear(self.hidden, width))

    def compress(self, tokens: Tensor) -> Tensor:
        return self.encoder(tokens)

    def reconstruct(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    @property
    def encoder_tensors(self) -> list[Tensor]:
        return list(self.encoder.parameters())

    def loss(self, features: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """MSE + cosine + spectral."""
        target = rearrange(features, "B T h w D -> (B T) (h w) D").float()
        terms = reconstruction_terms(self.config, self.reconstruct(self.compress(target)).float(), target)
        return torch.stack(list(terms.values())).sum(), terms

"""S-VAE adapter: compresses a wide semantic space to d channels (paper section 5 and appendix B)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.attention import attend
from rslwm.config import AdapterConfig

PUBLISHED = {
    "encoder": "enc_blocks",
    "encoder_norm": "enc_norm",
    "to_moments": "enc_proj",
    "decoder": "dec_blocks",
    "decoder_norm": "dec_norm",
    "from_latent": "dec_proj",
    "query": "attention.attention.query",
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "out": "attention.output.dense",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
}
"""Names of submodules in the published checkpoints."""


def published_name(tensor: str) -> str:
    """What the published checkpoints call a tensor of :class:`SVAE`."""
    return ".".join(PUBLISHED.get(part, part) for part in tensor.split("."))


class AdapterBlock(nn.Module):
    """Pre-norm transformer block with exact GELU and the layer-norm epsilon of the published blocks."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (
            rearrange(f(y), "B N (heads d) -> B heads N d", heads=self.heads)
            for f in (self.query, self.key, self.value)
        )
        x = x + self.out(rearrange(attend(q * q.shape[-1] ** -0.5, k, v), "B heads N d -> B N (heads d)"))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class SVAE(nn.Module):
    """Features of width D to a diagonal Gaussian over d channels and back, token grid unchanged.

    Args:
        width: D, channels of the native space; a multiple of ``config.heads``.
        channels: d, channels of the compressed space.
    """

    def __init__(self, config: AdapterConfig, width: int, channels: int) -> None:
        super().__init__()
        if width % config.heads:
            raise ValueError(f"adapter.heads {config.heads} does not divide the {width} channels of the native space")
        hidden = round(width * config.mlp_ratio)
        self.config = config
        self.encoder = nn.ModuleList(AdapterBlock(width, config.heads, hidden) for _ in range(config.blocks))
        self.encoder_norm, self.to_moments = nn.LayerNorm(width), nn.Linear(width, 2 * channels)
        self.from_latent = nn.Linear(channels, width)
        self.decoder = nn.ModuleList(AdapterBlock(width, config.heads, hidden) for _ in range(config.blocks))
        self.decoder_norm = nn.LayerNorm(width)

    def moments(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> mean and log-variance, each (B, N, d)."""
        for block in self.encoder:
            tokens = block(tokens)
        mean, log_variance = self.to_moments(self.encoder_norm(tokens)).float().chunk(2, -1)
        return mean, log_variance.clamp(-30, 20)

    def reconstruct(self, z: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, D)."""
        x = self.from_latent(z)
        for block in self.decoder:
            x = block(x)
        return self.decoder_norm(x)

    def encode(self, features: Tensor) -> Tensor:
        """(B, T, h, w, D) -> posterior mean (B, T, h, w, d)."""
        B, _, h, _, _ = features.shape
        mean, _ = self.moments(rearrange(features, "B T h w D -> (B T) (h w) D"))
        return rearrange(mean, "(B T) (h w) d -> B T h w d", B=B, h=h)

    def decode(self, latents: Tensor) -> Tensor:
        """(B, T, h, w, d) -> (B, T, h, w, D)."""
        B, _, h, _, _ = latents.shape
        out = self.reconstruct(rearrange(latents, "B T h w d -> (B T) (h w) d"))
        return rearrange(out, "(B T) (h w) D -> B T h w D", B=B, h=h)

    def loss(self, features: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """MSE + cosine + spectral + KL, the KL weight rising linearly over the first fifth of training.

        Args:
            features: (B, T, h, w, D), the native space.
            fraction: share of training done.
        """
        target = rearrange(features, "B T h w D -> (B T) (h w) D").float()
        mean, log_variance = self.moments(target)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator).to(mean)
        out = self.reconstruct(z).float()
        spectrum = torch.fft.rfft(out, dim=1).abs() - torch.fft.rfft(target, dim=1).abs()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        terms = {
            "mse": F.mse_loss(out, target),
            "cosine": self.config.cosine_weight * (1 - F.cosine_similarity(out, target, dim=-1)).mean(),
            "spectral": self.config.spectral_weight * spectrum.abs().mean(),
            "kl": self.config.kl_weight * min(1.0, fraction / 0.2) * kl,
        }
        return torch.stack(list(terms.values())).sum(), terms

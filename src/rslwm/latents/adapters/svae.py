"""The paper's S-VAE adapter (arXiv 2605.06388 section 5 and appendix B)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.attention import attend
from rslwm.latents.adapters.base import Adapter, AdapterConfig, reconstruction_terms

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

KL_WARMUP = 0.2
"""Share of training over which the weight of the divergence rises to its full value."""


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


class SVAE(Adapter):
    """Transformer blocks to a diagonal Gaussian over d channels, and as many back; latents are its mean.

    D must be a multiple of ``config.heads``.
    """

    label = "S-VAE"

    def __init__(self, config: AdapterConfig, width: int, channels: int) -> None:
        super().__init__(config, width, channels)
        if width % config.heads:
            raise ValueError(f"adapter.heads {config.heads} does not divide the {width} channels of the native space")
        self.encoder = nn.ModuleList(AdapterBlock(width, config.heads, self.hidden) for _ in range(config.blocks))
        self.encoder_norm, self.to_moments = nn.LayerNorm(width), nn.Linear(width, 2 * channels)
        self.from_latent = nn.Linear(channels, width)
        self.decoder = nn.ModuleList(AdapterBlock(width, config.heads, self.hidden) for _ in range(config.blocks))
        self.decoder_norm = nn.LayerNorm(width)

    def moments(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> mean and log-variance, each (B, N, d)."""
        for block in self.encoder:
            tokens = block(tokens)
        mean, log_variance = self.to_moments(self.encoder_norm(tokens)).float().chunk(2, -1)
        return mean, log_variance.clamp(-30, 20)

    def compress(self, tokens: Tensor) -> Tensor:
        return self.moments(tokens)[0]

    def reconstruct(self, z: Tensor) -> Tensor:
        x = self.from_latent(z)
        for block in self.decoder:
            x = block(x)
        return self.decoder_norm(x)

    @property
    def encoder_tensors(self) -> list[Tensor]:
        return [p for part in (self.encoder, self.encoder_norm, self.to_moments) for p in part.parameters()]

    def loss(self, features: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """MSE + cosine + spectral + KL, the KL weight rising linearly over the first fifth of training."""
        target = rearrange(features, "B T h w D -> (B T) (h w) D").float()
        mean, log_variance = self.moments(target)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator).to(mean)
        terms = reconstruction_terms(self.config, self.reconstruct(z).float(), target)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        terms["kl"] = self.config.kl_weight * min(1.0, fraction / KL_WARMUP) * kl
        return torch.stack(list(terms.values())).sum(), terms

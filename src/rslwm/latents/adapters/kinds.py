"""The paper's S-VAE adapter, and what it must beat: two layers a token, and the principal components."""

from __future__ import annotations

from collections.abc import Iterable

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

ROWS = 2**14
"""Tokens that are taken to double precision at once."""


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
    """The paper's (arXiv 2605.06388 section 5 and appendix B): transformer blocks to a diagonal Gaussian over d
    channels, and as many back; latents are its mean."""

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
        target = rearrange(features, "B T h w D -> (B T) (h w) D").float()
        mean, log_variance = self.moments(target)
        z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator).to(mean)
        terms = reconstruction_terms(self.config, self.reconstruct(z).float(), target)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        terms["kl"] = self.config.kl_weight * min(1.0, fraction / KL_WARMUP) * kl
        return torch.stack(list(terms.values())).sum(), terms


class MLP(Adapter):
    """Two layers to d channels and two back, each token alone: an S-VAE's losses without noise and attention."""

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
        target = rearrange(features, "B T h w D -> (B T) (h w) D").float()
        terms = reconstruction_terms(self.config, self.reconstruct(self.compress(target)).float(), target)
        return torch.stack(list(terms.values())).sum(), terms


class PCA(Adapter):
    """Projection onto the d directions of most variance and back; of all linear maps, the least squared error."""

    label, trainable = "PCA", False
    mean: Tensor
    components: Tensor

    def __init__(self, config: AdapterConfig, width: int, channels: int) -> None:
        super().__init__(config, width, channels)
        if channels > width:
            raise ValueError(f"PCA can't make {channels} channels of the {width} channels of the native space")
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("components", torch.eye(channels, width))

    def compress(self, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):  # exact, as it was fitted
            return (tokens.float() - self.mean) @ self.components.mT

    def reconstruct(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return z.float() @ self.components + self.mean

    @property
    def encoder_tensors(self) -> list[Tensor]:
        return [self.mean, self.components]

    def fit(self, features: Iterable[Tensor]) -> dict[str, float]:
        """Take the mean and the leading eigenvectors of the covariance of streamed (..., D) features; returns ``mse``,
        the squared error of reconstructing them, and ``explained``, the share of their variance that is kept."""
        count = 0
        total = torch.zeros(self.width, dtype=torch.float64)
        products = torch.zeros(self.width, self.width, dtype=torch.float64)
        for part in features:
            for rows in part.flatten(0, -2).split(ROWS):
                x = rows.double()
                count += len(x)
                total += x.sum(0)
                products += x.mT @ x
        mean = total / count
        variances, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        components = vectors[:, -self.channels :].flip(1).mT
        largest = components.gather(1, components.abs().argmax(1, keepdim=True))
        self.mean.copy_(mean)
        self.components.copy_(components * largest.sign())  # an eigenvector's sign is arbitrary
        lost = variances[: -self.channels].sum().clamp_min(0)
        return {"mse": float(lost / self.width), "explained": 1 - float(lost / variances.sum().clamp_min(1e-30))}

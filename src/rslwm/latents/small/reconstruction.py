"""What the three small autoencoders share: bottleneck, decoder, reconstruction loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.base import EncoderConfig, FrameBatch, TrainableEncoder
from rslwm.latents.small.backbone import PatchDecoder, PatchTransformer
from rslwm.types import LatentSpec


class SmallAutoencoder(TrainableEncoder):
    """Backbone, linear bottleneck to C channels, transformer decoder that is dropped after training."""

    name: ClassVar[str]
    revision: ClassVar[str] = "1"
    decoder_depth: ClassVar[int] = 2
    variational: ClassVar[bool] = True
    kl_weight: ClassVar[float] = 1e-4

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        self.backbone = self._backbone()
        self.to_latent = nn.Linear(config.width, config.channels * (2 if self.variational else 1))
        self.decoder = PatchDecoder(config, self.backbone.side, self.decoder_depth)
        encoder = [self.backbone, self.to_latent]
        self.spec = LatentSpec(
            name=self.name,
            family="reconstruction",
            grid=(self.backbone.side, self.backbone.side),
            channels=config.channels,
            parameters=sum(p.numel() for module in encoder for p in module.parameters()),
            revision=self.revision,
            preprocessing={"size": image_size, "range": [-1, 1], "latent": "mean"},
        )

    def _backbone(self) -> PatchTransformer:
        return PatchTransformer(self.config, self.image_size)

    def moments(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, H, W, 3) -> mean (B, h*w, C) and, for a variational encoder, log-variance."""
        out = self.to_latent(self.backbone(frames)).float()
        if not self.variational:
            return out, None
        mean, log_variance = out.chunk(2, -1)
        return mean, log_variance.clamp(-8, 4)

    def encode(self, frames: Tensor) -> Tensor:
        B, side = frames.shape[0], self.backbone.side
        mean, _ = self.moments(rearrange(frames, "B T H W c -> (B T) H W c"))
        return rearrange(mean, "(B T) (h w) C -> B T h w C", B=B, h=side)

    def loss(self, batch: FrameBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        frames = rearrange(batch.frames, "B T H W c -> (B T) H W c")
        mean, log_variance = self.moments(frames)
        z, terms = mean, {}
        if log_variance is not None:
            z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator).to(mean)
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
            terms["kl"] = self.kl_weight * kl
        error = self.decoder(z).float() - self.backbone.patches(frames)
        terms["reconstruction"] = error.abs().mean() + 4 * error.square().mean()
        terms |= self.extra_terms(batch, mean)
        return torch.stack(list(terms.values())).sum(), terms

    def extra_terms(self, batch: FrameBatch, z: Tensor) -> dict[str, Tensor]:
        """Further loss terms of a subclass, from the latents z (B*T, h*w, C)."""
        return {}

"""The small autoencoders: small-vae, small-cosmos and small-vavae."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS, EncoderConfig, FrameBatch
from rslwm.latents.small.backbone import PatchDecoder, PatchTransformer, SmallEncoder


class SmallAutoencoder(SmallEncoder):
    """Backbone, linear bottleneck to C channels, transformer decoder that is dropped after training."""

    family = "reconstruction"
    latent = "mean"
    scaffold: ClassVar[tuple[str, ...]] = ("decoder",)
    variational: ClassVar[bool] = True
    kl_weight = 1e-4

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        self.backbone = self._backbone()
        self.to_latent = nn.Linear(config.width, config.channels * (2 if self.variational else 1))
        self.decoder = PatchDecoder(config, self.backbone.side)
        self.spec = self.describe(config.channels, self.backbone, self.to_latent)

    def _backbone(self) -> PatchTransformer:
        return PatchTransformer(self.config, self.image_size)

    def moments(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, H, W, 3) -> mean (B, h*w, C) and, for a variational encoder, log-variance."""
        out = self.to_latent(self.backbone(frames)).float()
        if not self.variational:
            return out, None
        mean, log_variance = out.chunk(2, -1)
        return mean, log_variance.clamp(-8, 4)

    def tokens(self, frames: Tensor) -> Tensor:
        return self.moments(frames)[0]

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


@ENCODERS.register("small-vae")
class SmallVAE(SmallAutoencoder):
    """Gaussian bottleneck with a light KL penalty, the idea of latent diffusion's VAE; the latent is the posterior
    mean."""

    name = "small-vae"


def haar(image: Tensor) -> Tensor:
    """One level of the orthonormal 2-d Haar transform: (B, H, W, c) -> (B, H/2, W/2, 4c), bands LL LH HL HH."""
    a, b = image[:, 0::2, 0::2], image[:, 0::2, 1::2]
    c, d = image[:, 1::2, 0::2], image[:, 1::2, 1::2]
    return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], -1) / 2


class WaveletTransformer(PatchTransformer):
    """The backbone on two-level Haar coefficients instead of pixels, with as many parameters.

    The transform is orthonormal, so a squared error on coefficients is one on pixels; an absolute error is not: it
    favours sparse detail bands. Detail bands are scaled up, so that they aren't drowned by the mean.
    """

    detail_gain = 4.0

    def patches(self, frames: Tensor) -> Tensor:
        """(B, H, W, 3) in [0, 1] -> (B, h*w, patch values): scaled Haar coefficients of each patch."""
        x = haar(haar(2 * frames - 1))
        scale = torch.full((x.shape[-1],), self.detail_gain, dtype=x.dtype, device=x.device)
        scale[:3] = 1.0
        size = self.patch // 4
        return rearrange(x * scale / 2, "B (h p) (w q) c -> B (h w) (p q c)", p=size, q=size)


@ENCODERS.register("small-cosmos")
class SmallCosmos(SmallAutoencoder):
    """Wavelet-patched and deterministic, the idea of the Cosmos image tokenizer: no sampling and no KL."""

    name = "small-cosmos"
    variational = False

    def _backbone(self) -> PatchTransformer:
        if (patch := self.config.patch) % 4:
            raise ValueError(f"small-cosmos: encoder.patch {patch} is not a multiple of 4 (two Haar levels)")
        return WaveletTransformer(self.config, self.image_size)


@ENCODERS.register("small-vavae")
class SmallVAVAE(SmallAutoencoder):
    """The KL autoencoder with its latents aligned to a frozen semantic network (VA-VAE, arXiv 2501.01423): each token's
    cosine to the frozen feature, and the matrix of cosines between tokens.

    Both have a margin, so that alignment stops where it would cost reconstruction. The published adaptive weight is a
    constant here. The frozen network is the small-dino of the same study; its training is not counted in this
    encoder's compute, which the study prints.
    """

    name = "small-vavae"
    teacher = "small-dino"
    scaffold = ("decoder", "project")
    weight = 0.2
    token_margin, matrix_margin = 0.5, 0.25

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        self.project = nn.Linear(config.channels, config.width, bias=False)

    def extra_terms(self, batch: FrameBatch, z: Tensor) -> dict[str, Tensor]:
        if batch.features is None:
            raise ValueError("small-vavae needs the features of its frozen network (FrameBatch.features is None)")
        target = F.normalize(rearrange(batch.features.float(), "B T h w C -> (B T) (h w) C"), dim=-1)
        ours = F.normalize(self.project(z).float(), dim=-1)
        token = F.relu(1 - self.token_margin - (ours * target).sum(-1)).mean()
        cosines, wanted = ours @ ours.transpose(1, 2), target @ target.transpose(1, 2)
        matrix = F.relu((cosines - wanted).abs() - self.matrix_margin).mean()
        return {"alignment": self.weight * (token + matrix)}

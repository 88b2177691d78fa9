"""What the published variational autoencoders share: the network, and which latent is taken of its posterior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.published.base import Architecture, Options, PublishedAutoencoder, import_library
from rslwm.latents.published.posterior import Posterior, latent


@dataclass(frozen=True)
class KLOptions(Options):
    posterior: Posterior = "mode"
    """Mean of the posterior, or one draw from it (the paper's code: sample)."""


@dataclass(frozen=True)
class KLArchitecture(Architecture):
    config: Mapping[str, Any]
    """Of ``diffusers.AutoencoderKL``."""


class KLAutoencoder(PublishedAutoencoder):
    """A KL autoencoder of the Stable Diffusion line. A subclass implements ``measure``, ``load`` and ``affine``."""

    options_type = KLOptions

    @property
    def affine(self) -> tuple[Tensor, Tensor]:
        """Shift and scale from the posterior's latents z to ours, (z - shift) * scale; broadcast to (N, C, h, w)."""
        raise NotImplementedError

    def build(self, architecture: KLArchitecture) -> nn.Module:
        return import_library(self.name, "diffusers", "encoders").AutoencoderKL.from_config(architecture.config)

    def sized(self, config: Mapping[str, Any]) -> KLArchitecture:
        """The architecture of a network with this configuration."""
        patch = 2 ** (len(config["block_out_channels"]) - 1)
        architecture = KLArchitecture(config["latent_channels"], patch, 0, config)
        with torch.device("meta"):
            network: Any = self.build(architecture)
        parts = [part for part in (network.encoder, network.quant_conv) if part is not None]
        parameters = sum(p.numel() for part in parts for p in part.parameters())
        return KLArchitecture(architecture.channels, patch, parameters, config)

    def features(self, network: Any, images: Tensor) -> Tensor:
        posterior = network.encode(images).latent_dist
        z = latent(posterior.mean.float(), posterior.std.float(), images, self.options.posterior)
        shift, scale = (x.to(z.device) for x in self.affine)
        return rearrange((z - shift) * scale, "N C h w -> N h w C")

    def images(self, network: Any, latents: Tensor) -> Tensor:
        shift, scale = (x.to(latents.device) for x in self.affine)
        z = rearrange(latents.float(), "N h w C -> N C h w") / scale + shift
        return network.decode(z.to(latents.dtype)).sample

"""Random directions as a latent space."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from einops import rearrange
from torch import Tensor

from rslwm.compute import generator
from rslwm.latents.base import ENCODERS, Encoder, EncoderConfig
from rslwm.latents.floor.pixels import grid_side
from rslwm.serialisation import ConfigError
from rslwm.types import LatentSpec


@dataclass(frozen=True)
class ProjectionOptions:
    seed: int = 0
    """Of the directions."""


@ENCODERS.register("random-projection")
class RandomProjection(Encoder):
    """Patches of pixels on fixed random orthonormal directions: the small encoders' grid and channels, unlearned.

    Patches of ``encoder.patch`` pixels, ``encoder.channels`` directions. Distances between patches survive up to a
    common factor and an error that shrinks with the channels (Johnson and Lindenstrauss, 1984), but which of their
    differences matter is left to chance.
    """

    options_type = ProjectionOptions
    directions: Tensor

    def __init__(self, config: EncoderConfig, image_size: int, options: ProjectionOptions | None = None) -> None:
        super().__init__(config, image_size)
        options = options or ProjectionOptions()
        patch, values = config.patch, 3 * config.patch**2
        if config.channels > values:
            raise ConfigError(
                f"encoder.channels is {config.channels}, but a patch of {patch} px has {values} values; as many "
                "orthonormal directions don't exist"
            )
        side = grid_side(patch, image_size)
        self.register_buffer("directions", orthonormal(values, config.channels, options.seed))
        record = {"patch": patch, **asdict(options)}
        self.spec = LatentSpec("random-projection", "floor", (side, side), config.channels, preprocessing=record)

    def encode(self, frames: Tensor) -> Tensor:
        patch = self.config.patch
        patches = rearrange(2 * frames - 1, "B T (h p) (w q) c -> B T h w (p q c)", p=patch, q=patch)
        return patches @ self.directions


def orthonormal(values: int, channels: int, seed: int) -> Tensor:
    """(values, channels) with orthonormal columns, uniformly distributed, the same for a seed."""
    gaussian = torch.randn(values, channels, dtype=torch.float64, generator=generator(seed, "random projection"))
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign()).float()  # the signs of a decomposition are the library's choice

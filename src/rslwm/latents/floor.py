"""Spaces that know nothing, pixels and random directions: what every other space must beat."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from rslwm.compute import generator
from rslwm.latents.base import ENCODERS, Encoder, EncoderConfig
from rslwm.serialisation import ConfigError
from rslwm.types import LatentSpec


@dataclass(frozen=True)
class PixelOptions:
    samples: int = 2
    """Mean colours kept of a patch, along each side; as many as the patch has pixels loses nothing."""


@ENCODERS.register("raw-pixels")
class RawPixels(Encoder):
    """Mean colours in [-1, 1], those of a patch beside each other as channels: nothing is learned, nothing abstracted.

    The grid is that of the small encoders, one position for ``encoder.patch`` pixels, so that a world model sees as
    many tokens. Two by two colours make 12 channels, close to the small encoders' 16; all 192 values of an 8 px patch
    would be the widest space of a study.
    """

    options_type = PixelOptions

    def __init__(self, config: EncoderConfig, image_size: int, options: PixelOptions | None = None) -> None:
        super().__init__(config, image_size)
        options = options or PixelOptions()
        self.samples, patch = options.samples, config.patch
        if self.samples < 1 or patch % self.samples:
            raise ConfigError(f"raw-pixels[samples={self.samples}] must divide encoder.patch, which is {patch}")
        self.side = grid_side(patch, image_size)
        record = {"patch": patch, **asdict(options)}
        grid = (self.side, self.side)
        self.spec = LatentSpec("raw-pixels", "floor", grid, 3 * self.samples**2, preprocessing=record)

    def encode(self, frames: Tensor) -> Tensor:
        pattern = "B T (h p y) (w q x) c -> B T h w (p q c)"
        means = reduce(frames, pattern, "mean", h=self.side, w=self.side, p=self.samples, q=self.samples)
        return 2 * means - 1

    def show(self, latents: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B, T, H, W, 3) in [0, 1]: every mean colour where it was taken."""
        side = self.config.patch // self.samples
        pattern = "B T h w (p q c) -> B T (h p a) (w q b) c"
        return repeat((latents + 1) / 2, pattern, p=self.samples, q=self.samples, a=side, b=side)


@dataclass(frozen=True)
class ProjectionOptions:
    seed: int = 0
    """Of the directions."""


@ENCODERS.register("random-projection")
class RandomProjection(Encoder):
    """Patches of ``encoder.patch`` pixels on ``encoder.channels`` fixed random orthonormal directions, unlearned.

    Distances between patches survive up to a common factor and an error that shrinks with the channels (Johnson and
    Lindenstrauss, 1984), but which of their differences matter is left to chance.
    """

    options_type = ProjectionOptions
    directions: Tensor

    def __init__(self, config: EncoderConfig, image_size: int, options: ProjectionOptions | None = None) -> None:
        super().__init__(config, image_size)
        options = options or ProjectionOptions()
        patch, values = config.patch, 3 * config.patch**2
        if config.channels > values:
            what = f"encoder.channels is {config.channels}, but a patch of {patch} px has {values} values"
            raise ConfigError(f"{what}; as many orthonormal directions don't exist")
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


def grid_side(patch: int, image_size: int) -> int:
    """h = w of a grid of square patches; raises :class:`ConfigError` if they don't fill a frame."""
    if image_size % patch:
        raise ConfigError(f"encoder.patch is {patch}, which doesn't divide frames of {image_size} px (data.image_size)")
    return image_size // patch

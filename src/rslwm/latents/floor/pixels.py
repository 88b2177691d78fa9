"""Pixels themselves as a latent space."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from einops import reduce
from torch import Tensor

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
    many tokens. Two by two colours make 12 channels, close to the small encoders' 16, at the price of what is smaller
    than a quarter of a patch; all 192 values of an 8 px patch would be the widest space of a study.
    """

    options_type = PixelOptions

    def __init__(self, config: EncoderConfig, image_size: int, options: PixelOptions | None = None) -> None:
        super().__init__(config, image_size)
        self.samples, patch = (options or PixelOptions()).samples, config.patch
        if self.samples < 1 or patch % self.samples:
            raise ConfigError(f"raw-pixels[samples={self.samples}] must divide encoder.patch, which is {patch}")
        self.side = grid_side(patch, image_size)
        record = {"patch": patch, **asdict(options or PixelOptions())}
        grid = (self.side, self.side)
        self.spec = LatentSpec("raw-pixels", "floor", grid, 3 * self.samples**2, preprocessing=record)

    def encode(self, frames: Tensor) -> Tensor:
        pattern = "B T (h p y) (w q x) c -> B T h w (p q c)"
        means = reduce(frames, pattern, "mean", h=self.side, w=self.side, p=self.samples, q=self.samples)
        return 2 * means - 1


def grid_side(patch: int, image_size: int) -> int:
    """h = w of a grid of square patches.

    Raises:
        ConfigError: the patches don't fill a frame.
    """
    if image_size % patch:
        raise ConfigError(f"encoder.patch is {patch}, which doesn't divide frames of {image_size} px (data.image_size)")
    return image_size // patch

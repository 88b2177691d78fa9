"""Pixel decoders: latents to frames. The same network and budget for every space, trained on detached latents."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.config import DecoderConfig
from rslwm.types import LatentSpec


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class PixelDecoder(nn.Module):
    """The contract: latents (B, T, h, w, C) -> frames (B, T, H, W, 3) float, [0, 1] up to what a network overshoots.

    Args:
        spec: the latents that it reads.
        image_size: H = W of the frames.
    """

    def __init__(self, config: DecoderConfig, spec: LatentSpec, image_size: int) -> None:
        super().__init__()
        self.config = config


class SubPixelDecoder(PixelDecoder):
    """Convolutional decoder: two residual blocks on the latent grid, one at twice its side, then sub-pixel upsampling.

    Frames must be a multiple of twice the grid's side.
    """

    def __init__(self, config: DecoderConfig, spec: LatentSpec, image_size: int) -> None:
        super().__init__(config, spec, image_size)
        h, w = spec.grid
        if h != w or image_size % (2 * h):
            raise ValueError(f"{spec.name}: a {h}x{w} grid can't be decoded to {image_size} px (a multiple of {2 * h})")
        self.factor = image_size // (2 * h)
        wide, narrow = config.width, config.width // 2
        self.embed = nn.Conv2d(spec.channels, wide, 3, padding=1)
        self.low = nn.Sequential(ResidualBlock(wide), ResidualBlock(wide))
        self.up = nn.Conv2d(wide, 4 * narrow, 1)
        self.high = ResidualBlock(narrow)
        self.norm = nn.GroupNorm(8, narrow)
        self.out = nn.Conv2d(narrow, 3 * self.factor**2, 3, padding=1)
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast in bfloat16

    def forward(self, latents: Tensor) -> Tensor:
        B = latents.shape[0]
        x = rearrange(latents, "B T h w C -> (B T) C h w").to(memory_format=torch.channels_last)
        x = F.pixel_shuffle(self.up(self.low(self.embed(x))), 2)
        x = self.out(F.silu(self.norm(self.high(x))))
        x = F.pixel_shuffle(x, self.factor)
        return 0.5 + 0.5 * rearrange(x, "(B T) c H W -> B T H W c", B=B).float()

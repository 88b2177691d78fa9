"""The paper's pixel decoder (arXiv 2605.06388 section 5), after that of latent diffusion (Rombach et al., 2022).

Submodules carry the names of the published checkpoints, so that those load without a key map.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.attention import attend
from rslwm.latents.decoder import DecoderConfig, PixelDecoder
from rslwm.types import LatentSpec


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels), channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two convolutions, each behind a norm; a third, of one pixel, where the width changes."""

    shortcut: ClassVar[str] = "skip"
    """Name of the third."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, padding=1)
        self.add_module(self.shortcut, nn.Conv2d(channels, out, 1) if channels != out else nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.get_submodule(self.shortcut)(x)
        return shortcut + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class PixelAttention(nn.Module):
    """Multi-head attention among all pixels of a level, behind a norm."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (
            rearrange(project(y), "B (heads d) h w -> B heads (h w) d", heads=self.heads)
            for project in (self.q, self.k, self.v)
        )
        attended = attend(q * q.shape[-1] ** -0.5, k, v)
        return x + self.proj_out(rearrange(attended, "B heads (h w) d -> B (heads d) h w", h=x.shape[-2]))


def upsample(channels: int) -> nn.Module:
    """Twice the side, then a convolution."""
    return nn.Sequential(OrderedDict(up=nn.Upsample(scale_factor=2), conv=nn.Conv2d(channels, channels, 3, padding=1)))


class Level(nn.Module):
    """Residual blocks, attention in the first level, upsampling in all but the last."""

    def __init__(self, config: DecoderConfig, channels: int, out: int, first: bool, last: bool) -> None:
        super().__init__()
        inputs = [channels, *[out] * (config.blocks - 1)]
        self.blocks = nn.Sequential(*(ResidualBlock(width, out) for width in inputs))
        self.attn = PixelAttention(out, config.heads) if first else nn.Identity()
        self.upsample = nn.Identity() if last else upsample(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(self.attn(self.blocks(x)))


class LDMDecoder(PixelDecoder):
    """Residual levels from the latent grid to the frame, each at twice the side; attention on the grid; a sigmoid."""

    def __init__(self, config: DecoderConfig, spec: LatentSpec, image_size: int) -> None:
        super().__init__(config, spec, image_size)
        widths = [config.width * multiplier for multiplier in reversed(config.multipliers)]
        factor, (h, w) = 2 ** (len(widths) - 1), spec.grid
        if not h * factor == w * factor == image_size:
            what = f"the {len(widths)} levels of decoder.multipliers make {h * factor} x {w * factor} px"
            raise ValueError(f"{spec.name}: {what} of a {h}x{w} grid, not {image_size} x {image_size}")
        if widths[0] % config.heads:
            raise ValueError(f"decoder.heads {config.heads} does not divide the {widths[0]} channels at the grid")
        self.proj_in = nn.Conv2d(spec.channels, widths[0], 1)
        self.mid_block1 = ResidualBlock(widths[0], widths[0])
        self.mid_attn = PixelAttention(widths[0], config.heads)
        self.mid_block2 = ResidualBlock(widths[0], widths[0])
        levels = enumerate(pairwise([widths[0], *widths]), 1)
        self.up_levels = nn.Sequential(*(Level(config, *pair, i == 1, i == len(widths)) for i, pair in levels))
        self.norm_out, self.conv_out = norm(widths[-1]), nn.Conv2d(widths[-1], 3, 3, padding=1)
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast in bfloat16

    def decode(self, x: Tensor) -> Tensor:
        x = self.mid_block2(self.mid_attn(self.mid_block1(self.proj_in(x))))
        x = self.conv_out(F.silu(self.norm_out(self.up_levels(x))))
        return x.float().sigmoid()

"""Pixel decoders: latents to frames. The same network and budget for every space, trained on detached latents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.optim import OptimConfig
from rslwm.serialisation import OPERATIONAL
from rslwm.types import LatentSpec


@dataclass(frozen=True)
class DecoderConfig:
    """Pixel decoder, trained on detached latents, the same for every space."""

    own: bool = False
    """Spaces whose encoder has a decoder of its own decode with that one; nothing is trained for them."""
    through: int = 0
    """Native semantic spaces decode through an adapter to this many channels and the pixel decoder of its latents,
    both the same as those of NAME+THROUGH (the paper: 96); 0 gives them a pixel decoder of their own."""
    kind: Literal["sub-pixel", "ldm"] = "sub-pixel"
    """sub-pixel is small and quick; ldm is the paper's, level by level to the frame's resolution."""
    width: int = 128
    """Channels at the latent grid (sub-pixel) or at the frame's resolution (ldm; the paper: 160)."""
    multipliers: tuple[int, ...] = (1, 1, 2, 4, 8)
    """ldm: widths of the levels, from the frame's resolution down to the latent grid; each step halves the side."""
    blocks: int = 2
    """ldm: residual blocks a level."""
    heads: int = 4
    """ldm: attention heads at the latent grid."""
    noise: float = 0.05
    """Standard deviation of the noise added to the (normalised) latents, so that generated ones decode well."""
    loss: Literal["absolute", "published"] = "absolute"
    """absolute + 8 squared error, or the paper's: squared error + ``structure_weight`` (1 - MS-SSIM)."""
    structure_weight: float = 0.5
    perceptual: Literal["none", "lpips-alex", "lpips-vgg", "effnet-lite0"] = "none"
    """Perceptual distance, added to either loss. LPIPS needs a download; effnet-lite0, a package's, isn't LPIPS."""
    perceptual_weight: float = 0.5
    perceptual_after: int = 0
    """Training frames seen before the perceptual distance counts."""
    perceptual_folder: str = field(default="", metadata=OPERATIONAL)
    """Folder of the networks that LPIPS compares with; empty is where torchvision keeps its downloads."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=180, lr=2e-3))


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

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
    """Let spaces whose encoder has a decoder of its own decode with that one. Nothing is trained for them."""
    through: int = 0
    """Let native semantic spaces decode as the paper does it: compressed by an adapter to this many channels (the
    paper: 96), by the pixel decoder of these latents. Both are those of the space NAME+THROUGH. 0 gives native spaces
    a pixel decoder of their own."""
    kind: Literal["sub-pixel", "ldm"] = "sub-pixel"
    """sub-pixel is small and quick, with most of its work at the resolution of the latents. ldm is the paper's, which
    doubles the resolution level by level up to the frame's."""
    width: int = 128
    """Number of channels, of sub-pixel at the resolution of the latents, of ldm at that of the frame (the paper:
    160)."""
    multipliers: tuple[int, ...] = (1, 1, 2, 4, 8)
    """How many times the width the levels of ldm are wide, from the frame's resolution down to that of the latents.
    There is one number for each level, and each level has half the side of the one before."""
    blocks: int = 2
    """Number of residual blocks in each level of ldm."""
    heads: int = 4
    """Number of attention heads of ldm, which attends at the resolution of the latents only."""
    noise: float = 0.05
    """Standard deviation of the noise that is added to the normalised latents in training, so that generated latents,
    which are never quite right, decode well."""
    loss: Literal["absolute", "published"] = "absolute"
    """absolute is the absolute error plus 8 times the squared error. published is the paper's: the squared error plus
    decoder.structure-weight times (1 - MS-SSIM)."""
    structure_weight: float = 0.5
    """Weight in the published loss of multi-scale structural dissimilarity (1 - MS-SSIM)."""
    perceptual: Literal["none", "lpips-alex", "lpips-vgg", "effnet-lite0"] = "none"
    """Perceptual distance that is added to the loss. LPIPS compares what AlexNet or VGG sees and needs a download.
    effnet-lite0 compares what a network sees that a package ships; it isn't LPIPS."""
    perceptual_weight: float = 0.5
    """Weight of the perceptual distance in the loss."""
    perceptual_after: int = 0
    """Number of training frames after which the perceptual distance begins to count."""
    perceptual_folder: str = field(default="", metadata=OPERATIONAL)
    """Folder of the networks that LPIPS compares with. Empty is where torchvision keeps its downloads."""
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
    """The contract: latents (B, T, h, w, C) as ``spec`` says -> frames (B, T, H, W, 3) float, H = W = ``image_size``,
    [0, 1] up to what a network overshoots."""

    def __init__(self, config: DecoderConfig, spec: LatentSpec, image_size: int) -> None:
        super().__init__()
        self.config = config

    def forward(self, latents: Tensor) -> Tensor:
        images = rearrange(latents, "B T h w C -> (B T) C h w").to(memory_format=torch.channels_last)
        return rearrange(self.decode(images), "(B T) c H W -> B T H W c", B=len(latents))

    def decode(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 3, H, W) float."""
        raise NotImplementedError


class SubPixelDecoder(PixelDecoder):
    """Convolutional: two residual blocks on the latent grid, one at twice its side, then sub-pixel upsampling."""

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

    def decode(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.up(self.low(self.embed(x))), 2)
        x = self.out(F.silu(self.norm(self.high(x))))
        return 0.5 + 0.5 * F.pixel_shuffle(x, self.factor).float()

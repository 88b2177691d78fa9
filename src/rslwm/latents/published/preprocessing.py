"""From a video's frames to what a published network was trained to see: a record, not code of the network's library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

Filter = Literal["bicubic", "bilinear"]

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Resize to a square and normalise; nothing is cropped."""

    size: int
    """Side in pixels of what the network sees."""
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF
    """Per colour; the halves take [0, 1] to [-1, 1]."""
    filter: Filter = "bicubic"
    antialias: bool = True

    def __call__(self, frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(N, H, W, 3) in [0, 1] -> (N, 3, size, size)."""
        images = rearrange(frames, "N H W c -> N c H W").float().contiguous()  # resizing is slow otherwise
        images = resize(images, self.size, self.filter, self.antialias)
        mean, std = (torch.tensor(x, device=images.device)[:, None, None] for x in (self.mean, self.std))
        return (images - mean).div_(std).to(dtype)

    def invert(self, images: Tensor, side: int) -> Tensor:
        """(N, 3, size, size) -> frames (N, side, side, 3) in [0, 1]."""
        mean, std = (torch.tensor(x, device=images.device)[:, None, None] for x in (self.mean, self.std))
        frames = resize(images.float() * std + mean, side, self.filter, self.antialias)
        return rearrange(frames, "N c H W -> N H W c").clamp(0, 1)


def resize(images: Tensor, side: int, kind: Filter, antialias: bool) -> Tensor:
    """(N, c, H, W) -> (N, c, side, side); the bicubic filter overshoots the range of its input."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode=kind, antialias=antialias, align_corners=False)

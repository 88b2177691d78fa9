"""What the three small semantic encoders share: a moving-average teacher, masks, augmentation, a collapse guard."""

from __future__ import annotations

import copy
import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.base import EncoderConfig, TrainableEncoder
from rslwm.latents.small.backbone import PatchTransformer, follow
from rslwm.types import LatentSpec


class SmallSemantic(TrainableEncoder):
    """A student backbone and its teacher; the teacher's tokens are the latent."""

    name: ClassVar[str]
    revision: ClassVar[str] = "1"
    momentum: ClassVar[tuple[float, float]] = (0.99, 0.999)

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        self.student = PatchTransformer(config, image_size)
        self.backbone = copy.deepcopy(self.student).requires_grad_(False)
        self.mask_token = nn.Parameter(torch.randn(config.width) * 0.02)
        self.spec = LatentSpec(
            name=self.name,
            family="semantic",
            grid=(self.backbone.side, self.backbone.side),
            channels=config.width,
            parameters=sum(p.numel() for p in self.backbone.parameters()),
            revision=self.revision,
            preprocessing={"size": image_size, "range": [-1, 1], "latent": "tokens after the last norm"},
        )

    def encode(self, frames: Tensor) -> Tensor:
        B, side = frames.shape[0], self.backbone.side
        tokens = self.backbone(rearrange(frames, "B T H W c -> (B T) H W c"))
        return rearrange(tokens.float(), "(B T) (h w) C -> B T h w C", B=B, h=side)

    @torch.no_grad()
    def update(self, fraction: float) -> None:
        start, end = self.momentum
        follow(self.backbone, self.student, end - (end - start) * 0.5 * (1 + math.cos(math.pi * fraction)))

    def masked_student(self, frames: Tensor, mask: Tensor) -> Tensor:
        return self.student(frames, mask, self.mask_token)


def photometric(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Mild contrast, brightness and colour changes, one draw an image; (B, H, W, 3) in [0, 1], not clipped."""
    B = frames.shape[0]
    u = torch.rand(B, 1, 1, 5, generator=generator).to(frames) - 0.5
    contrast, brightness, colour = u[..., :1], u[..., 1:2], u[..., 2:]
    return (frames - 0.5) * (1 + 0.2 * contrast) + 0.5 + 0.1 * brightness + 0.05 * colour


def random_mask(B: int, N: int, share: float, generator: torch.Generator) -> Tensor:
    """(B, N) bool with exactly round(share * N) tokens masked in each row."""
    order = torch.rand(B, N, generator=generator).argsort(1)
    return order < round(share * N)


def standardise(target: Tensor) -> Tensor:
    """Zero mean and unit variance for each (position, channel) over the batch, so that what is the same in every frame
    is no part of the target; (B, N, D)."""
    scale = target.std(0, keepdim=True)
    return (target - target.mean(0, keepdim=True)) / (scale + 0.05 * target.std() + 1e-4)


def variance_covariance(tokens: Tensor, generator: torch.Generator, sample: int = 1024) -> Tensor:
    """VICReg's guard (arXiv 2105.04906): every channel's standard deviation at least 1, channels uncorrelated.

    Latent prediction without it collapses at this size. ``tokens`` is (N, D).
    """
    pick = torch.randperm(len(tokens), generator=generator)[:sample].to(tokens.device)
    x = tokens[pick].float()
    x = x - x.mean(0)
    deviation = (x.var(0) + 1e-4).sqrt()
    covariance = x.T @ x / (len(x) - 1)
    off_diagonal = covariance - torch.diag(covariance.diag())
    return F.relu(1 - deviation).mean() + 0.04 * off_diagonal.square().sum() / x.shape[1]

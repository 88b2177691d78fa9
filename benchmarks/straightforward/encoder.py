"""A frozen vision transformer as published encoders are: what encoding at every training step costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True)
class ViTConfig:
    """A frozen encoder; the defaults are ViT-L/16, 304 M parameters, the size of the published ones."""

    width: int = 1024
    """Width of the transformer."""
    depth: int = 24
    """Number of its blocks."""
    heads: int = 16
    """Number of its attention heads."""
    patch: int = 16
    """Side in pixels of the patch that becomes a token."""


class ViTBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm1(x)), "B N (three k d) -> three B k N d", three=3, k=self.heads)
        x = x + self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "B k N d -> B N (k d)"))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Random weights, one token a cell of the latent grid, projected to the latent's channels.

    The projection stands for a study's adapter. The weights are cast to ``dtype`` once, as a frozen encoder's are.
    """

    def __init__(self, config: ViTConfig, grid: int, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.config, self.grid, width = config, grid, config.width
        self.embed = nn.Conv2d(3, width, config.patch, config.patch)
        self.position = nn.Parameter(0.02 * torch.randn(grid**2, width))
        self.blocks = nn.Sequential(*(ViTBlock(width, config.heads) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, channels)
        self.to(dtype).requires_grad_(False).eval()

    @property
    def frame_flops(self) -> float:
        """FLOPs of a frame, two a multiply-add: the matrix products of the blocks and of the patch embedding."""
        config, tokens = self.config, self.grid**2
        block = 24 * tokens * config.width**2 + 4 * tokens**2 * config.width
        return config.depth * block + 2 * tokens * 3 * config.patch**2 * config.width

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """uint8 frames (B, T, H, W, 3) -> latents (B, T, h, w, C) float32."""
        B, h = len(frames), self.grid
        pixels = rearrange(frames.to(self.position), "B T H W c -> (B T) c H W") / 127.5 - 1
        tokens = self.embed(pixels).flatten(2).mT + self.position
        latents = self.project(self.norm(self.blocks(tokens)))
        return rearrange(latents, "(B T) (h w) C -> B T h w C", B=B, h=h).float()

"""A frozen vision transformer as published encoders are: what encoding at every training step costs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.bench.config import FootageConfig
from rslwm.serialisation import ConfigError


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

    Raises:
        ConfigError: patches of this size don't cut the frames into the latent grid.
    """

    def __init__(self, config: FootageConfig, dtype: torch.dtype) -> None:
        super().__init__()
        vit = config.encoder
        if vit.patch * config.grid != config.image_size:
            raise ConfigError(
                f"encoder.patch {vit.patch} cuts {config.image_size} px into {config.image_size / vit.patch:g} a side, "
                f"but the grid is {config.grid}; set encoder.patch, image_size or grid"
            )
        self.config = config
        self.embed = nn.Conv2d(3, vit.width, vit.patch, vit.patch)
        self.position = nn.Parameter(0.02 * torch.randn(config.grid**2, vit.width))
        self.blocks = nn.Sequential(*(ViTBlock(vit.width, vit.heads) for _ in range(vit.depth)))
        self.norm = nn.LayerNorm(vit.width)
        self.project = nn.Linear(vit.width, config.channels)
        self.to(dtype).requires_grad_(False).eval()

    @property
    def clip_flops(self) -> float:
        """FLOPs of a clip, two a multiply-add: the matrix products of the blocks and of the patch embedding."""
        vit, tokens = self.config.encoder, self.config.grid**2
        block = 24 * tokens * vit.width**2 + 4 * tokens**2 * vit.width
        return self.config.frames * (vit.depth * block + 2 * tokens * 3 * vit.patch**2 * vit.width)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """uint8 frames (B, T, H, W, 3) -> latents (B, T, h, w, C) float32."""
        B, h = len(frames), self.config.grid
        pixels = rearrange(frames.to(self.position), "B T H W c -> (B T) c H W") / 127.5 - 1
        tokens = self.embed(pixels).flatten(2).mT + self.position
        latents = self.project(self.norm(self.blocks(tokens)))
        return rearrange(latents, "(B T) (h w) C -> B T h w C", B=B, h=h).float()

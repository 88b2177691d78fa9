"""The one backbone of the small encoders, so that they differ in nothing but their objective."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.attention import attend
from rslwm.latents.base import EncoderConfig


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "B N (three heads d) -> three B heads N d", three=3, heads=self.heads)
        return self.out(rearrange(attend(q * q.shape[-1] ** -0.5, k, v), "B heads N d -> B N (heads d)"))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchTransformer(nn.Module):
    """Vision transformer over non-overlapping patches; (B, H, W, 3) in [0, 1] -> tokens (B, h*w, width)."""

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__()
        if image_size % config.patch:
            raise ValueError(f"image_size {image_size} is not a multiple of encoder.patch {config.patch}")
        if config.width % config.heads:
            raise ValueError(f"encoder.heads {config.heads} does not divide encoder.width {config.width}")
        self.patch, self.side = config.patch, image_size // config.patch
        self.embed = nn.Linear(3 * config.patch**2, config.width)
        self.position = nn.Parameter(torch.randn(1, self.side**2, config.width) * 0.02)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def patches(self, frames: Tensor) -> Tensor:
        """(B, H, W, 3) in [0, 1] -> (B, h*w, patch values) in [-1, 1]."""
        return 2 * rearrange(frames, "B (h p) (w q) c -> B (h w) (p q c)", p=self.patch, q=self.patch) - 1

    def forward(self, frames: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """``mask`` is (B, h*w) bool: those tokens are replaced by ``mask_token`` before attention."""
        x = self.embed(self.patches(frames))
        if mask is not None and mask_token is not None:
            x = torch.where(mask[..., None], mask_token.to(x.dtype), x)
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class PatchDecoder(nn.Module):
    """Latent tokens (B, h*w, C) -> patch values (B, h*w, patch values): the other half of an autoencoder."""

    def __init__(self, config: EncoderConfig, side: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(config.channels, config.width)
        self.position = nn.Parameter(torch.randn(1, side**2, config.width) * 0.02)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(depth))
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, 3 * config.patch**2)

    def forward(self, z: Tensor) -> Tensor:
        x = self.embed(z) + self.position
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's weights towards the student's: teacher = momentum * teacher + (1 - momentum) * student."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)

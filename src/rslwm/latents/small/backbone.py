"""What all small encoders share, so that they differ in nothing but their objective."""

from __future__ import annotations

from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.attention import attend
from rslwm.latents.base import EncoderConfig, TrainableEncoder
from rslwm.types import Family, LatentSpec


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

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokenTransformer(nn.Module):
    """A linear embedding of tokens (B, h*w, inputs), positions, blocks and a norm."""

    def __init__(self, config: EncoderConfig, inputs: int, side: int, depth: int) -> None:
        super().__init__()
        self.side = side
        self.embed = nn.Linear(inputs, config.width)
        self.position = nn.Parameter(torch.randn(1, side**2, config.width) * 0.02)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(depth))
        self.norm = nn.LayerNorm(config.width)

    def transform(self, embedded: Tensor) -> Tensor:
        """(B, h*w, width) -> (B, h*w, width)."""
        x = embedded + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class PatchTransformer(TokenTransformer):
    """Vision transformer over non-overlapping patches; (B, H, W, 3) in [0, 1] -> tokens (B, h*w, width)."""

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        if image_size % config.patch:
            raise ValueError(f"image_size {image_size} is not a multiple of encoder.patch {config.patch}")
        if config.width % config.heads:
            raise ValueError(f"encoder.heads {config.heads} does not divide encoder.width {config.width}")
        super().__init__(config, 3 * config.patch**2, image_size // config.patch, config.depth)
        self.patch = config.patch

    def patches(self, frames: Tensor) -> Tensor:
        """(B, H, W, 3) in [0, 1] -> (B, h*w, patch values) in [-1, 1]."""
        return 2 * rearrange(frames, "B (h p) (w q) c -> B (h w) (p q c)", p=self.patch, q=self.patch) - 1

    def forward(self, frames: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """``mask`` is (B, h*w) bool: those tokens are replaced by ``mask_token`` before attention."""
        x = self.embed(self.patches(frames))
        if mask is not None and mask_token is not None:
            x = torch.where(mask[..., None], mask_token.to(x.dtype), x)
        return self.transform(x)


class PatchDecoder(TokenTransformer):
    """Latent tokens (B, h*w, C) -> patch values (B, h*w, patch values): the other half of an autoencoder."""

    def __init__(self, config: EncoderConfig, side: int) -> None:
        super().__init__(config, config.channels, side, depth=2)
        self.out = nn.Linear(config.width, 3 * config.patch**2)

    def forward(self, z: Tensor) -> Tensor:
        return self.out(self.transform(self.embed(z)))


class SmallEncoder(TrainableEncoder):
    """Tokens of a backbone, on the square grid of its patches."""

    name: ClassVar[str]
    family: ClassVar[Family]
    latent: ClassVar[str]
    """What is taken of the network, for the record."""
    backbone: PatchTransformer

    def describe(self, channels: int, *parts: nn.Module) -> LatentSpec:
        """The spec of latents that these parts make."""
        grid = (self.backbone.side, self.backbone.side)
        parameters = sum(p.numel() for part in parts for p in part.parameters())
        record = {"size": self.image_size, "range": [-1, 1], "latent": self.latent}
        return LatentSpec(self.name, self.family, grid, channels, parameters, revision="1", preprocessing=record)

    def tokens(self, frames: Tensor) -> Tensor:
        """(B, H, W, 3) -> latents (B, h*w, C)."""
        return self.backbone(frames)

    def encode(self, frames: Tensor) -> Tensor:
        tokens = self.tokens(rearrange(frames, "B T H W c -> (B T) H W c"))
        return rearrange(tokens.float(), "(B T) (h w) C -> B T h w C", B=len(frames), h=self.backbone.side)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's weights towards the student's: teacher = momentum * teacher + (1 - momentum) * student."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)

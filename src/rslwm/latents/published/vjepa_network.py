"""The vision transformer of V-JEPA 2.1 (Mur-Labadia et al., arXiv 2603.14482), which no library holds yet.

Modules carry the names of the published state dict. What 2.1 does otherwise than V-JEPA 2 (Assran et al., arXiv
2506.09985) can be switched off, so that an implementation of the latter can vouch for the rest.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from rslwm.attention import attend

HEAD = 64
"""Channels of an attention head, in every published size."""
AXIS = 2 * (HEAD // 3 // 2)
"""Channels of a head that turn with one of time, height and width; the few that are left don't turn."""
REFERENCE_SIDE = 256
"""Pixels of the side whose grid of patches has integer positions; the positions of other grids lie between them."""
LEVELS = 4
EPS = 1e-6

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines (N, HEAD) of N tokens, float32."""


@dataclass(frozen=True)
class VJEPAConfig:
    """Sizes, those of ViT-L/16, and what is new in 2.1."""

    width: int = 1024
    depth: int = 24
    mlp: int = 4096
    patch: int = 16
    tubelet: int = 2
    """Frames of a video that one token sees."""
    images: bool = True
    """A single frame has a patch embedding of its own; V-JEPA 2 repeats it to fill a tubelet."""
    modality: bool = True
    """Tokens are told whether they come from an image or from a video."""
    interleaved: bool = True
    """Both channels of a rotated pair have one frequency; V-JEPA 2 lists the frequencies twice, one after another."""
    interpolated: bool = True
    """Every grid spans the positions of the reference grid."""
    level_norms: bool = True
    """The output of several blocks can be read, each through a norm of its own; V-JEPA 2 has the last one only."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Blocks whose output is read."""
        if not self.level_norms:
            return (self.depth - 1,)
        if self.depth == 48:
            return 11, 23, 37, 47  # as published: ViT-G's third level is not at three quarters
        return tuple(self.depth * level // LEVELS - 1 for level in range(1, LEVELS + 1))


class VJEPA(nn.Module):
    """Frames to tokens."""

    def __init__(self, config: VJEPAConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = _patch_embedding(config, config.tubelet)
        if config.images:
            self.patch_embed_img = _patch_embedding(config, 1)
        if config.modality:
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, config.width))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norms_block = nn.ModuleList(nn.LayerNorm(config.width, EPS) for _ in config.levels)

    def forward(self, video: Tensor, multi: bool = False) -> Tensor:
        """Normalised frames (B, 3, T, H, W) -> tokens (B, N, D) of the last block, in order of time, row and column.

        A single frame is an image of h w tokens; a video has T / tubelet times as many. ``multi`` puts the levels'
        outputs beside each other: (B, N, 4 D).
        """
        tokens, rotation = self._embed(video)
        levels = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, rotation)
            if index in self.config.levels:
                levels.append(tokens)
        if not multi:
            return self.norms_block[-1](tokens)
        return torch.cat([norm(level) for norm, level in zip(self.norms_block, levels, strict=True)], -1)

    def _embed(self, video: Tensor) -> tuple[Tensor, Rotation]:
        is_image = video.shape[2] == 1
        if is_image and self.config.images:
            x = self.patch_embed_img(video)
        else:
            x = self.patch_embed(video.expand(-1, -1, self.config.tubelet, -1, -1) if is_image else video)
        T, h, w = x.shape[2:]
        rotation = grid_rotation(self.config, T, h, w, x.device)
        tokens = rearrange(x, "B D T h w -> B (T h w) D")
        if self.config.modality:
            tokens = tokens + (self.img_mod_embed if is_image else self.video_mod_embed)
        return tokens, rotation


class Block(nn.Module):
    """Attention and perceptron, each behind a norm and beside a residual."""

    def __init__(self, config: VJEPAConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, EPS)
        self.attn = Attention(config.width)
        self.norm2 = nn.LayerNorm(config.width, EPS)
        fc1, fc2 = nn.Linear(config.width, config.mlp), nn.Linear(config.mlp, config.width)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, act=nn.GELU(), fc2=fc2))

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = x + self.attn(self.norm1(x), rotation)
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Of all tokens to all tokens; queries and keys turn with their positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        qkv = rearrange(self.qkv(x), "B N (qkv heads d) -> qkv B heads N d", qkv=3, d=HEAD)
        (q, k), v = rotate(qkv[:2], rotation), qkv[2]
        mixed = attend(q * HEAD**-0.5, k, v)
        return self.proj(rearrange(mixed, "B heads N d -> B N (heads d)"))


def grid_rotation(config: VJEPAConfig, T: int, h: int, w: int, device: torch.device | None = None) -> Rotation:
    """By how much each channel of a head turns, for each token of a grid."""
    time = torch.arange(T, device=device, dtype=torch.float32)
    steps = torch.meshgrid(time, _steps(config, h, device), _steps(config, w, device), indexing="ij")
    positions = rearrange(list(steps), "tyx T h w -> tyx (T h w) 1")
    frequencies = 1 / 10_000 ** (torch.arange(AXIS // 2, device=device) / (AXIS / 2))
    pattern = "tyx N f -> N (tyx f pair)" if config.interleaved else "tyx N f -> N (tyx pair f)"
    angles = repeat(positions * frequencies, pattern, pair=2)
    angles = F.pad(angles, (0, HEAD - angles.shape[1]))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Queries and keys (..., N, HEAD), turned in the planes of adjacent channels; computed in float32."""
    (cosine, sine), y = rotation, x.float()
    first, second = y.unflatten(-1, (-1, 2)).unbind(-1)
    quarter_turn = torch.stack((-second, first), -1).flatten(-2)
    return (y * cosine + quarter_turn * sine).to(x.dtype)


def _steps(config: VJEPAConfig, side: int, device: torch.device | None) -> Tensor:
    """Positions along a side of the grid; a single one is 0."""
    if config.interpolated:
        return torch.linspace(0, REFERENCE_SIDE // config.patch - 1, side, device=device)
    return torch.arange(side, device=device, dtype=torch.float32)


def _patch_embedding(config: VJEPAConfig, frames: int) -> nn.Sequential:
    kernel = (frames, config.patch, config.patch)
    return nn.Sequential(OrderedDict(proj=nn.Conv3d(3, config.width, kernel, kernel)))

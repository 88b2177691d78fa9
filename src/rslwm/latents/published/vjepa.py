"""V-JEPA 2.1, frame by frame (Mur-Labadia et al., arXiv 2603.14482), whose network no library holds yet.

Modules carry the names of the published state dict. New since V-JEPA 2 (Assran et al., arXiv 2506.09985): a patch
embedding for single frames, tokens that are told whether they come from an image or a video, both channels of a rotated
pair at one frequency, grids that all span the positions of the reference grid, and norms for the output of four levels.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from rslwm.attention import attend
from rslwm.latents.base import ENCODERS, EncoderConfig
from rslwm.latents.published.base import IMAGENET, Architecture, Options, PublishedEncoder, blank, require
from rslwm.latents.published.weights import Source, Weights
from rslwm.tensors import read_tensors, take_weights, tensors_in

FILE = "vjepa2_1_vitl_dist_vitG_384.pt"
ENTRIES = ("ema_encoder", "target_encoder", "encoder")
BARE = "file"

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
    """Sizes, those of ViT-L/16."""

    width: int = 1024
    depth: int = 24
    mlp: int = 4096
    patch: int = 16
    tubelet: int = 2
    """Frames of a video that one token sees."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Blocks whose output can be read."""
        if self.depth == 48:
            return 11, 23, 37, 47  # as published: ViT-G's third level is not at three quarters
        return tuple(self.depth * level // LEVELS - 1 for level in range(1, LEVELS + 1))


class VJEPA(nn.Module):
    """Frames to tokens."""

    def __init__(self, config: VJEPAConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = _patch_embedding(config, config.tubelet)
        self.patch_embed_img = _patch_embedding(config, 1)
        self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, config.width))
        self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norms_block = nn.ModuleList(nn.LayerNorm(config.width, EPS) for _ in config.levels)

    def forward(self, video: Tensor, multi: bool = False) -> Tensor:
        """Normalised frames (B, 3, T, H, W) -> tokens (B, N, D) of the last block, in order of time, row and column.

        A single frame is an image of h w tokens; a video has T / tubelet times as many. ``multi`` puts the levels'
        outputs beside each other: (B, N, 4 D).
        """
        is_image = video.shape[2] == 1
        x = (self.patch_embed_img if is_image else self.patch_embed)(video)
        T, h, w = x.shape[2:]
        rotation = grid_rotation(self.config.patch, T, h, w, x.device)
        tokens = rearrange(x, "B D T h w -> B (T h w) D") + (self.img_mod_embed if is_image else self.video_mod_embed)
        levels = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, rotation)
            if index in self.config.levels:
                levels.append(tokens)
        if not multi:
            return self.norms_block[-1](tokens)
        return torch.cat([norm(level) for norm, level in zip(self.norms_block, levels, strict=True)], -1)


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
        x = x + self.attn(self.norm1(x), rotation)
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Of all tokens to all tokens; queries and keys turn with their positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        qkv = rearrange(self.qkv(x), "B N (qkv heads d) -> qkv B heads N d", qkv=3, d=HEAD)
        (q, k), v = rotate(qkv[:2], rotation), qkv[2]
        mixed = attend(q * HEAD**-0.5, k, v)
        return self.proj(rearrange(mixed, "B heads N d -> B N (heads d)"))


def grid_rotation(patch: int, T: int, h: int, w: int, device: torch.device | None = None) -> Rotation:
    """By how much each channel of a head turns, for each token of a grid."""
    time = torch.arange(T, device=device, dtype=torch.float32)
    rows, columns = (torch.linspace(0, REFERENCE_SIDE // patch - 1, side, device=device) for side in (h, w))
    steps = torch.meshgrid(time, rows, columns, indexing="ij")
    positions = rearrange(list(steps), "tyx T h w -> tyx (T h w) 1")
    frequencies = 1 / 10_000 ** (torch.arange(AXIS // 2, device=device) / (AXIS / 2))
    angles = repeat(positions * frequencies, "tyx N f -> N (tyx f pair)", pair=2)
    angles = F.pad(angles, (0, HEAD - angles.shape[1]))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Queries and keys (..., N, HEAD), turned in the planes of adjacent channels; computed in float32."""
    (cosine, sine), y = rotation, x.float()
    first, second = y.unflatten(-1, (-1, 2)).unbind(-1)
    quarter_turn = torch.stack((-second, first), -1).flatten(-2)
    return (y * cosine + quarter_turn * sine).to(x.dtype)


def _patch_embedding(config: VJEPAConfig, frames: int) -> nn.Sequential:
    kernel = (frames, config.patch, config.patch)
    return nn.Sequential(OrderedDict(proj=nn.Conv3d(3, config.width, kernel, kernel)))


@dataclass(frozen=True)
class VJEPAOptions(Options):
    level: Literal["last", "multi"] = "last"
    """The last block's output (the paper's code), or that of four levels beside each other, four times as wide."""
    entry: Literal["", "ema_encoder", "target_encoder", "encoder", "file"] = ""
    """State dict to read, or the file itself if it is one; empty takes the first of these that is there (the official
    code: the moving average, whose name differs between sizes). The one taken is recorded."""


@dataclass(frozen=True)
class VJEPAArchitecture(Architecture):
    config: VJEPAConfig = field(default_factory=VJEPAConfig)
    entry: str = ENTRIES[0]


@ENCODERS.register("vjepa2.1")
class VJEPA21(PublishedEncoder):
    """The ViT-L/16 that was distilled from ViT-G, on the path for images; the other sizes load as well."""

    name = "vjepa2.1"
    family = "semantic"
    source = Source(
        (FILE,),
        megabytes=1219,  # of the encoder; the file holds more, its size isn't published
        licence="MIT (of its repository)",
        revision="unversioned",
        url=f"https://dl.fbaipublicfiles.com/vjepa2/{FILE}",
    )
    published = VJEPAArchitecture(channels=1024, patch=16, parameters=304_680_960)
    options_type = VJEPAOptions
    mean, std = IMAGENET

    def __init__(self, config: EncoderConfig, image_size: int, options: Options | None = None) -> None:
        super().__init__(config, image_size, options)
        levels = len(self.architecture.config.levels) if self.options.level == "multi" else 1
        record = {**self.spec.preprocessing, "entry": self.options.entry or self.architecture.entry}
        self.spec = replace(self.spec, channels=levels * self.architecture.channels, preprocessing=record)

    def measure(self, weights: Weights) -> VJEPAArchitecture:
        entry, tensors = self._tensors(weights)
        ours = {_bare(name): x for name, x in tensors.items()}
        needed = {"patch_embed.proj.weight": 5, "patch_embed_img.proj.weight": 5, "blocks.0.mlp.fc1.weight": 2}
        for name, axes in needed.items():
            require(name in ours, weights, f"tensor {name!r} is missing from {entry}: this is no V-JEPA 2.1")
            require(ours[name].ndim == axes, weights, f"tensor {name!r} is {tuple(ours[name].shape)}, not {axes}-d")
        video, image, fc1 = (ours[name] for name in needed)
        width, patch = image.shape[0], image.shape[-1]
        require(width % HEAD == 0, weights, f"its width is {width}, which heads of {HEAD} channels don't divide")
        depth = 1 + max(int(index) for name in ours for index in re.findall(r"^blocks\.(\d+)\.", name))
        require(depth >= LEVELS, weights, f"has {depth} block(s), too few for {LEVELS} levels")
        network = VJEPAConfig(width, depth, fc1.shape[0], patch, video.shape[2])
        return VJEPAArchitecture(width, patch, sum(x.numel() for x in tensors.values()), network, entry)

    def build(self, architecture: VJEPAArchitecture) -> nn.Module:
        return VJEPA(architecture.config)

    def load(self, weights: Weights) -> nn.Module:
        _, tensors = self._tensors(weights)
        written = {_bare(name): name for name in tensors}
        network = blank(lambda: self.build(self.architecture))
        take_weights(network, tensors, weights.file, lambda name: written.get(name, name))
        return network

    def features(self, network: Any, images: Tensor) -> Tensor:
        tokens = network(rearrange(images, "N c H W -> N c 1 H W"), multi=self.options.level == "multi")
        return rearrange(tokens, "N (h w) C -> N h w C", h=self.spec.grid[0])

    def _tensors(self, weights: Weights) -> tuple[str, dict[str, Tensor]]:
        """The encoder's state dict as it is written, and where in the file it is."""
        content = read_tensors(weights.file)
        entry = self.options.entry or next((name for name in ENTRIES if name in content), BARE)
        if entry == BARE:
            return entry, tensors_in(content, weights.file)
        held = content.get(entry)
        require(isinstance(held, dict), weights, f"holds no state dict {entry!r} but {', '.join(map(str, content))}")
        return entry, tensors_in(content[entry], weights.file)


def _bare(name: str) -> str:
    """A tensor's name without what wrappers put before it while the network was trained."""
    return re.sub(r"^((module|backbone)\.)+", "", name)

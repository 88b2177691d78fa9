"""The networks that policies look with: pictures and an instruction to numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.actors.words import LENGTH, NUMBERS
from rslwm.latents.decoder import ResidualBlock
from rslwm.serialisation import ConfigError

SIDE = 64
"""Pixels a side of the pictures that they see."""

_HIDDEN = 256
_PATCH = 8
_DEEP = 4
_HEADS = 4


@dataclass(frozen=True)
class SightConfig:
    """A network that looks."""

    kind: Literal["points", "patches"] = "points"
    """points: convolutions, of whose maps the centres are taken, steered by the instruction. patches: a transformer
    over patches of the picture and the words."""
    width: int = 48
    """Channels of the convolutions, a multiple of 8, or of the transformer's tokens, a multiple of 4."""
    frames: int = 1
    """Pictures that it sees at once: 1 is the present one, 2 the one before as well."""


class Sight(nn.Module):
    """``read`` makes of words (B, LENGTH) what ``forward`` takes with frames (B, frames, 3, SIDE, SIDE) in [0, 1]; it
    gives (B, out). An instruction is read once, and looked at with every frame. Raises ConfigError: it is to see
    another number of frames than 1 or 2."""

    def __init__(self, config: SightConfig, out: int) -> None:
        super().__init__()
        if config.frames not in (1, 2):
            raise ConfigError(f"sight.frames is {config.frames}; a policy sees 1 or 2 frames at once")
        self.config = config

    def read(self, words: Tensor) -> Tensor:
        raise NotImplementedError


class Points(Sight):
    """Spatial soft-argmax (Finn et al. 2016) of maps that the instruction modulates (FiLM, Perez et al. 2018)."""

    def __init__(self, config: SightConfig, out: int) -> None:
        super().__init__(config, out)
        width, maps, language = config.width, 32, 64
        self.words, self.order = nn.Embedding(NUMBERS, 32, padding_idx=0), nn.GRU(32, language, batch_first=True)
        self.first = nn.Conv2d(3 * config.frames, 32, 5, 2, 2)
        self.down = nn.Conv2d(32, width, 3, 2, 1)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(2))
        self.films = nn.ModuleList(nn.Linear(language, 2 * width) for _ in range(2))
        self.fine, self.coarse = nn.Conv2d(32, maps, 1), nn.Conv2d(width, 4 * maps, 1)
        layers = [nn.Linear(3 * maps + language, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU()]
        self.head = nn.Sequential(*layers, nn.Linear(_HIDDEN, out))
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def read(self, words: Tensor) -> Tensor:
        said, _ = self.order(self.words(words))
        last = (words > 0).sum(1).clamp(min=1) - 1
        return said[torch.arange(len(words)), last]

    def forward(self, frames: Tensor, said: Tensor) -> Tensor:
        x = rearrange(frames - 0.5, "B T c H W -> B (T c) H W").contiguous(memory_format=torch.channels_last)
        seen = F.silu(self.first(x))
        x = self.down(seen)
        for film, block in zip(self.films, self.blocks, strict=True):
            scale, shift = film(said)[:, :, None, None].chunk(2, 1)
            x = block(x * (1 + scale) + shift)
        maps = (self.fine(seen) + F.pixel_shuffle(self.coarse(F.silu(x)), 2)).float()
        points = torch.cat([_centres(maps), said.float()], 1)
        return self.head(points).float()


def _centres(maps: Tensor) -> Tensor:
    """(B, K, h, w) -> (B, 3 K): of every map the mean place under its softmax, from -1 to 1, and the value there."""
    weight = maps.flatten(2).softmax(2)
    across = torch.linspace(-1, 1, maps.shape[3])
    down = torch.linspace(-1, 1, maps.shape[2])
    grid = torch.stack([across.repeat(len(down)), down.repeat_interleave(len(across))]).to(maps)
    places = torch.einsum("B K n, a n -> B a K", weight, grid)
    strength = (weight * maps.flatten(2)).sum(2)
    return torch.cat([places.flatten(1), 0.1 * strength], 1)


class Patches(Sight):
    """A transformer over the words, the patches of the frames and one token that the answer is read from."""

    def __init__(self, config: SightConfig, out: int) -> None:
        super().__init__(config, out)
        width, patches = config.width, (SIDE // _PATCH) ** 2
        self.words = nn.Embedding(NUMBERS, width)
        self.embed = nn.Linear(3 * config.frames * _PATCH**2, width)
        self.answer = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.5 * torch.randn(1, LENGTH + patches + 1, width))
        nn.init.normal_(self.words.weight, std=0.5)
        shape = {"dim_feedforward": 2 * width, "dropout": 0.0, "activation": "gelu"}
        layer = nn.TransformerEncoderLayer(width, _HEADS, **shape, batch_first=True, norm_first=True)  # type: ignore[arg-type]
        self.blocks = nn.TransformerEncoder(layer, _DEEP, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Linear(width, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, out))

    def read(self, words: Tensor) -> Tensor:
        return self.words(words)

    def forward(self, frames: Tensor, said: Tensor) -> Tensor:
        cut = rearrange(frames - 0.5, "B T c (h a) (w b) -> B (h w) (T c a b)", a=_PATCH, b=_PATCH)
        tokens = torch.cat([said, self.embed(cut), self.answer.expand(len(cut), -1, -1)], 1)
        return self.head(self.blocks(tokens + self.places)[:, -1]).float()


SIGHTS: dict[str, type[Sight]] = {"points": Points, "patches": Patches}

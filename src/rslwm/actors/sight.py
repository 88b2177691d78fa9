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
_SHARP = 4.0  # how much maps are scaled up: a softmax over a thousand places is flat to begin with
_PLACES = 3  # whose maps are told where they are: gripper, thing and goal
_WINDOW = [(x, y) for y in range(-26, 9, 3) for x in range(-10, 11, 3)]  # pixels around a place; arms come from above
_CLOSE, _CLOSER = 6, 64  # channels of what is seen there, and numbers that it becomes
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
    gives (B, out) and, of networks with maps, the logits (B, 3, h, w) of those that show where the gripper, the thing
    to move and the goal are. An instruction is read once, and looked at with every frame. Raises ConfigError: it is to
    see another number of frames than 1 or 2."""

    def __init__(self, config: SightConfig, out: int) -> None:
        super().__init__()
        if config.frames not in (1, 2):
            raise ConfigError(f"sight.frames is {config.frames}; a policy sees 1 or 2 frames at once")
        self.config = config

    def read(self, words: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, frames: Tensor, said: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError


class Points(Sight):
    """Spatial soft-argmax (Finn et al. 2016) of maps that the instruction modulates (FiLM, Perez et al. 2018)."""

    def __init__(self, config: SightConfig, out: int) -> None:
        super().__init__(config, out)
        width, maps, language = config.width, 24, 64
        self.words, self.order = nn.Embedding(NUMBERS, 32, padding_idx=0), nn.GRU(32, language, batch_first=True)
        self.first, self.down = nn.Conv2d(3 * config.frames, 32, 5, 2, 2), nn.Conv2d(32, width, 3, 2, 1)
        self.block = ResidualBlock(width)
        self.fine, self.coarse = nn.Conv2d(32, maps, 1), nn.Conv2d(width, 4 * maps, 1)
        self.film = nn.Linear(language, 2 * (32 + width))
        self.near = nn.Conv2d(32, _CLOSE, 1)
        self.looks = nn.ModuleList(nn.Linear(_CLOSE * len(_WINDOW), _CLOSER) for _ in range(_PLACES))
        known = nn.Linear(3 * maps + language + _PLACES * _CLOSER, _HIDDEN)
        self.head = nn.Sequential(known, nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, out))
        nn.Module.to(self, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def read(self, words: Tensor) -> Tensor:
        said, _ = self.order(self.words(words))
        last = (words > 0).sum(1).clamp(min=1) - 1
        return said[torch.arange(len(words)), last]

    def forward(self, frames: Tensor, said: Tensor) -> tuple[Tensor, Tensor | None]:
        x = rearrange(4 * (frames - 0.5), "B T c H W -> B (T c) H W").contiguous(memory_format=torch.channels_last)
        scale, shift = self.film(said)[:, :, None, None].chunk(2, 1)
        seen = F.silu(self.first(x))
        deep = self.block(self.down(seen) * (1 + scale[:, 32:]) + shift[:, 32:])
        near = self.fine(seen * (1 + scale[:, :32]) + shift[:, :32])
        maps = _SHARP * (near + F.pixel_shuffle(self.coarse(F.silu(deep)), 2))  # a product, once its softmax is taken
        centres = _centres(maps)
        close = _glimpses(self.near(seen), centres[:, :2, :_PLACES].transpose(1, 2).detach())
        looks = [F.silu(look(part)) for look, part in zip(self.looks, close.unbind(1), strict=True)]
        return self.head(torch.cat([centres.flatten(1), said, *looks], 1)).float(), maps[:, :_PLACES]


def _centres(maps: Tensor) -> Tensor:
    """(B, K, h, w) -> (B, 3, K): of every map the mean place under its softmax, right and down from -1 to 1, and the
    value there."""
    weight = maps.flatten(2).softmax(2)
    down, right = ((torch.arange(size).to(maps) + 0.5) / size * 2 - 1 for size in maps.shape[2:])
    grid = torch.stack([right.repeat(len(down)), down.repeat_interleave(len(right))])
    places = torch.einsum("B K n, a n -> B a K", weight, grid)
    return torch.cat([places, 0.1 * (weight * maps.flatten(2)).sum(2)[:, None]], 1)


def _glimpses(x: Tensor, places: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, P, C n): what surrounds each of P places (B, P, 2)."""
    window = torch.tensor(_WINDOW).to(x) * 2 / SIDE
    seen = F.grid_sample(x, places[:, :, None] + window, align_corners=False, padding_mode="border")
    return rearrange(seen, "B C P n -> B P (C n)")


def misplaced(maps: Tensor, places: Tensor) -> Tensor:
    """Cross entropy of maps (B, 3, h, w), as logits, against places (B, 3, 2) as of :func:`rslwm.sim.sight.places`, of
    which the four nearest cells get their share: the mean under a perfect map is the place itself."""
    h, w = maps.shape[2:]
    at = (places.clamp(0, 1) * torch.tensor([w, h]) - 0.5).clamp(min=0)
    low = at.long().minimum(torch.tensor([w - 2, h - 2]))
    share = (at - low).clamp(max=1)
    chance = maps.flatten(2).log_softmax(2)
    loss = chance.new_zeros(())
    for right in (0, 1):
        for down in (0, 1):
            part = (share[..., 0] if right else 1 - share[..., 0]) * (share[..., 1] if down else 1 - share[..., 1])
            cell = (low[..., 1] + down) * w + low[..., 0] + right
            loss = loss - (part * chance.gather(2, cell[..., None])[..., 0]).mean()
    return loss


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

    def forward(self, frames: Tensor, said: Tensor) -> tuple[Tensor, Tensor | None]:
        cut = rearrange(4 * (frames - 0.5), "B T c (h a) (w b) -> B (h w) (T c a b)", a=_PATCH, b=_PATCH)
        tokens = torch.cat([said, self.embed(cut), self.answer.expand(len(cut), -1, -1)], 1)
        return self.head(self.blocks(tokens + self.places)[:, -1]).float(), None


SIGHTS: dict[str, type[Sight]] = {"points": Points, "patches": Patches}

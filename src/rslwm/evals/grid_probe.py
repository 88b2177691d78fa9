"""The network of every probe. It has the same weights to learn with whatever the latents' grid and channels are, or a
probe's error would tell the size of its reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.decoder import ResidualBlock

if TYPE_CHECKING:
    from rslwm.evals.probe import ProbeConfig


_HIDDEN = 256


class GridProbe(nn.Module):
    """(B, T, h, w, C) latents, frames stacked along channels, to ``out`` numbers.

    Latents are brought to ``config.grid`` cells a side: what a cell covers of a finer grid becomes its channels, so no
    position is lost, and a coarser grid is interpolated. Of more than ``config.channels`` channels the probe sees as
    many mixtures, drawn at random once and not trained; of fewer, the rest of the embedding's weights lie idle.
    """

    def __init__(self, frames: int, channels: int, grid: tuple[int, int], out: int, config: ProbeConfig) -> None:
        super().__init__()
        self.config = config
        self.arguments: dict[str, Any] = {"frames": frames, "channels": channels, "grid": grid, "out": out}
        self.side, width = config.grid, config.width
        self.fold = (-(-grid[0] // self.side), -(-grid[1] // self.side))
        folded = channels * self.fold[0] * self.fold[1]
        self.used = min(folded, config.channels)
        self.embed = nn.Conv2d(frames * config.channels, width, 1)
        with torch.no_grad():  # as if the idle ones weren't there
            self.embed.weight.mul_((config.channels / self.used) ** 0.5)
        mixing = torch.randn(folded, self.used) / folded**0.5 if folded > self.used else None
        self.register_buffer("mixing", mixing)
        self.mixing: Tensor | None
        self.fine, self.down, self.coarse = ResidualBlock(width), nn.Conv2d(width, width, 3, 2, 1), ResidualBlock(width)
        cells = (-(-self.side // 2)) ** 2
        self.head = nn.Sequential(nn.Linear(cells * width, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, out))

    def forward(self, latents: Tensor) -> Tensor:
        T = latents.shape[1]
        cells = rearrange(self._cells(latents), "(B T) C h w -> B (T C) h w", T=T)
        weight = rearrange(self.embed.weight, "D (T C) 1 1 -> D T C 1 1", T=T)[:, :, : self.used].flatten(1, 2)
        x = F.conv2d(cells, weight, self.embed.bias)
        return self.head(self.coarse(self.down(self.fine(x))).flatten(1)).float()

    def _cells(self, latents: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B T, used, side, side)."""
        x = rearrange(latents, "B T h w C -> (B T) C h w")
        a, b = self.fold
        if x.shape[2:] != (a * self.side, b * self.side):
            x = F.interpolate(x, (a * self.side, b * self.side), mode="bilinear")
        x = rearrange(x, "N C (h a) (w b) -> N (C a b) h w", a=a, b=b)
        return x if self.mixing is None else torch.einsum("N C h w, C D -> N D h w", x, self.mixing.to(x.dtype))

"""Optical flow by matching blocks: no weights, large displacements, and nothing moves where nothing changes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS, STRIDE = 2, 2
"""Pixels from the middle of a block to its edge, and between the middles of neighbouring blocks."""
MARGIN = 2e-4
"""By how much the mean squared difference of a block must fall for it to have moved: noise moves nothing."""


def flow(a: Tensor, b: Tensor, reach: int) -> Tensor:
    """Where the blocks of images (N, c, H, W) went in the images after them, (N, 2, H/2, W/2): right and down, in
    pixels.

    A block is compared with all that are at most ``reach`` pixels away, and the best is refined to a fraction of a
    pixel by a parabola. Of equal ones the nearest is taken.
    """
    cost = _costs(a, b, reach)
    side = 2 * reach + 1
    least, best = cost.flatten(1, 2).min(1)
    down, right = best // side, best % side
    places = torch.stack([right + _refined(cost.transpose(1, 2), right, down), down + _refined(cost, down, right)], 1)
    still = cost[:, reach, reach] - least < MARGIN
    return torch.where(still[:, None], 0.0, places - reach)


def _costs(a: Tensor, b: Tensor, reach: int) -> Tensor:
    """Mean squared difference of a block and each that is so far down and right, (N, S, S, H/2, W/2)."""
    side, block = 2 * reach + 1, 2 * RADIUS + 1
    a, around = (F.pad(x, (margin,) * 4, mode="replicate") for x, margin in ((a, RADIUS), (b, RADIUS + reach)))
    height, width = a.shape[2:]
    rows = []
    for down in range(side):
        there = around[:, :, down : down + height].unfold(3, width, 1)  # (N, c, H, S, W)
        difference = (a[:, :, :, None] - there).square_().mean(1).transpose(1, 2)
        across = _sum(difference, 3, block, width)
        rows.append(_sum(across, 2, block, height))
    away = (torch.arange(side) - reach).square()
    return torch.stack(rows, 1) / block**2 + 1e-7 * (away[:, None] + away)[:, :, None, None]


def _sum(x: Tensor, axis: int, block: int, length: int) -> Tensor:
    """Sums of so many neighbours along an axis, from every second place on."""
    places = torch.arange(0, length - block + 1, STRIDE)
    total = x.index_select(axis, places)
    for i in range(1, block):
        total += x.index_select(axis, places + i)
    return total


def _refined(cost: Tensor, place: Tensor, other: Tensor) -> Tensor:
    """Minimum of the parabola through the costs (N, S, S', h, w) at ``place`` (N, h, w) of S and beside it, relative to
    it; 0 at the ends."""
    last = cost.shape[1] - 1
    line = cost.gather(2, other[:, None, None].expand(-1, last + 1, 1, -1, -1))[:, :, 0]
    before, at, after = (line.gather(1, (place + d).clamp(0, last)[:, None])[:, 0] for d in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = ((before - after) / (2 * bend.clamp_min(1e-12))).clamp(-0.5, 0.5)
    return torch.where((place > 0) & (place < last), shift, 0.0)

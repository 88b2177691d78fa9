"""Rotary position embeddings: adjacent channel pairs, turned by an angle that grows with a position."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rslwm.model.dit import DiTConfig


def rotary_table(positions: Tensor, shares: Sequence[int], width: int) -> Tensor:
    """Unit complex numbers (N, width / 2) for positions (N, axes); axis i turns ``shares[i]`` channels, in order.

    The frequency of pair i of an axis with n pairs is 10000^(-i/n). Channels beyond the shares stay as they are. In
    double precision: positions grow for as long as a rollout lasts.
    """
    angles = torch.zeros(len(positions), width // 2, dtype=torch.float64)
    start = 0
    for axis, share in zip(positions.unbind(1), shares, strict=True):
        pairs = share // 2
        frequencies = 10_000 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        angles[:, start : start + pairs] = axis[:, None] * frequencies
        start += pairs
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x (..., d) by the table (broadcastable to (..., d/2), complex)."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # fuses real products, but has no code for complex ones
        (a, b), (c, d) = pairs.unbind(-1), torch.view_as_real(table).unbind(-1)
        return torch.stack([a * c - b * d, a * d + b * c], -1).flatten(-2).to(x.dtype)
    return torch.view_as_real(torch.view_as_complex(pairs) * table).flatten(-2).to(x.dtype)


@torch.compiler.disable
@lru_cache(maxsize=64)
def rotary_tables(
    config: DiTConfig, grid: tuple[int, int], start: int, frames: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of space and of time, for ``frames`` frames from position ``start`` on; (..., 2, 1, d/2) each.

    For the queries and for the keys of all heads; queries also get their 1 / sqrt(d).
    """
    scale = (config.width // config.heads) ** -0.5
    with torch.inference_mode(False):
        tables = spatial_table(config, grid), temporal_table(config, torch.arange(start, start + frames), grid)
        both = (torch.stack([scale * table, table], -2).unsqueeze(-2) for table in tables)
        space, time = (table.to(device, torch.complex64) for table in both)
        return space, time


def spatial_table(config: DiTConfig, grid: tuple[int, int]) -> Tensor:
    """Of the tokens of a frame, (N, d/2): row and column; with several views side by side also the view.

    Of d channels a view gets floor(d/3) made even, the row half of the rest made even, the column what remains.
    """
    rows, places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).unbind(1)
    width = config.width // config.heads
    if config.views == 1:
        return rotary_table(torch.stack([rows, places], 1), (width // 2, width // 2), width)
    if config.view_order == "side-by-side":
        view, column = places // (grid[1] // config.views), places % (grid[1] // config.views)
    else:
        column, view = places // config.views, places % config.views
    share = width // 3 // 2 * 2
    row_share = (width - share) // 2 // 2 * 2
    shares = (row_share, width - share - row_share, share)
    return rotary_table(torch.stack([rows, column, view], 1), shares, width)


def temporal_table(config: DiTConfig, frames: Tensor, grid: tuple[int, int]) -> Tensor:
    """Of frames (T,) at absolute positions: (T, 1, d/2), or (T, N, d/2) where tokens of all places meet.

    Joint attention turns frame, row and column on the first d - (d mod 6) channels, a third each.
    """
    width = config.width // config.heads
    if config.temporal == "factorised":
        return rotary_table(frames[:, None], (width,), width)[:, None]
    places = (torch.arange(n) for n in grid)
    positions = torch.cartesian_prod(frames, *places)
    return rotary_table(positions, (width // 6 * 2,) * 3, width).unflatten(0, (len(frames), -1))

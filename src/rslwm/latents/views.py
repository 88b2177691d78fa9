"""Frames as networks see them: as floats, and the camera views in their width apart."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import Tensor


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames to float in [0, 1]."""
    return frames.float().div_(255)


def to_bytes(frames: Tensor) -> Tensor:
    """Frames in [0, 1], whatever lies beyond is cut, to uint8 on the CPU."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def apart(x: Tensor, views: int) -> Tensor:
    """Frames or latents (B, T, h, V w, C) -> (B V, T, h, w, C), the views of a clip one after the other."""
    return rearrange(x, "B T h (V w) C -> (B V) T h w C", V=views)


def side_by_side(x: Tensor, views: int) -> Tensor:
    """Inverse of :func:`apart`."""
    return rearrange(x, "(B V) T h w C -> B T h (V w) C", V=views)


def one_view(x: Tensor, number: int, views: int) -> Tensor:
    """One view (..., h, w, C) of (..., h, V w, C)."""
    return x.chunk(views, -2)[number]


def one_view_each(x: Tensor, numbers: Iterable[int], views: int) -> Tensor:
    """Of every row of (N, ..., h, V w, C) the view with its number: (N, ..., h, w, C)."""
    return x if views == 1 else torch.stack([one_view(row, n, views) for row, n in zip(x, numbers, strict=True)])

"""The statistics of a space's channels, on training frames only."""

from __future__ import annotations

import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, device
from rslwm.latents.space import LatentSpace

SAMPLE = 2048
"""Frames of one view that the statistics are taken over."""
_BATCH = 256


@torch.no_grad()
def fit_normaliser(space: LatentSpace, frames: Tensor, compute: ComputeConfig) -> None:
    """Fit the normaliser of a space to what it makes of training frames (N, H, V W, 3), float in [0, 1]."""
    where = device(compute)
    with autocast(compute):
        parts = [space.compress(space.features(x[:, None].to(where))).float() for x in frames.split(_BATCH)]
    space.normaliser.fit(torch.cat(parts))

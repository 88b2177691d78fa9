"""Distances between images: at several scales, and where something moves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
KERNEL = 11
"""Pixels a side of SSIM's window."""
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, from the finest (Wang et al. 2003, "Multiscale structural similarity")."""


def planes(frames: Tensor) -> Tensor:
    """Luminance of frames (N, T, H, W, 3) as images (N T, 1, H, W)."""
    return rearrange(frames @ torch.tensor(LUMINANCE), "N T H W -> (N T) 1 H W")


def scales(side: int) -> int:
    """How often an image of this side can be halved until it is no larger than SSIM's window, and itself; at most 5."""
    return next((s for s in range(len(BETAS), 1, -1) if side > (KERNEL - 1) * 2 ** (s - 1)), 1)


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """(N, T, H, W, 3) twice, in [0, 1] -> (N, T): multiscale structural similarity of the luminance.

    The published five scales need 161 px a side. Smaller frames have fewer (64 px: 3), with the weights of the finest
    ones scaled to add up to 1. Scales that correlate negatively count as 0: they have no fractional power.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure  # takes two seconds

    betas = BETAS[: scales(min(a.shape[2:4]))]
    weights = tuple(beta / sum(betas) for beta in betas)
    x, y = planes(a), planes(b)
    value = multiscale_structural_similarity_index_measure(
        x, y, data_range=1.0, reduction="none", betas=weights, normalize="relu"
    )
    return value.reshape(a.shape[:2])


def moving(frames: Tensor, threshold: float, reach: int) -> Tensor:
    """Where the frames after the first (N, 1+F, H, W, 3) differ from it, (N, F, H, W) bool.

    A pixel moves whose brightest channel changes by more than ``threshold``, and all that are at most ``reach`` pixels
    away from it in both directions.
    """
    change = (frames[:, 1:] - frames[:, :1]).abs().amax(-1) > threshold
    return F.max_pool2d(change.float(), 2 * reach + 1, 1, reach) > 0.5


def mean_within(values: Tensor, where: Tensor) -> Tensor:
    """Mean of (N, F, H, W) over the pixels that are true in ``where``, (N, F); 0 where there are none."""
    return (values * where).sum((2, 3)) / where.sum((2, 3)).clamp_min(1)


def psnr_within(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """(N, F, H, W, 3) twice, in [0, 1] -> (N, F) in dB over the pixels of ``where`` (N, F, H, W); capped at 60."""
    return -10 * torch.log10(mean_within((a - b).square().mean(-1), where).clamp_min(1e-6))


def ssim_within(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    """(N, F, H, W, 3) twice, in [0, 1] -> (N, F): the map of structural similarity, averaged over ``where``."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = planes(a), planes(b)
    _, found = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none", return_full_image=True)
    return mean_within(found.reshape(where.shape), where)


def changes(frames: Tensor) -> Tensor:
    """(N, 1+F, H, W, 3) -> (N, F, H, W, 3), each frame minus the one before."""
    return frames[:, 1:] - frames[:, :-1]


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """How far two changes (N, F, H, W, 3) are the same, (N, F): 2 <a, b> / (|a|² + |b|²), which is 1 if they are
    equal, 0 if one is nothing or they are elsewhere, and -1 if they are opposite."""
    product, squares = (x.flatten(2).sum(2) for x in (a * b, a.square() + b.square()))
    return 2 * product / squares.clamp_min(1e-12)


def shrunk(frames: Tensor, side: int) -> Tensor:
    """Frames (N, T, H, V H, 3) averaged over areas as images (N T, 3, side, V side), if they are larger."""
    images = rearrange(frames, "N T H W c -> (N T) c H W")
    height, width = images.shape[2:]
    return F.adaptive_avg_pool2d(images, (side, width * side // height)) if height > side else images

"""What an encoder makes of a few frames: statistics, speed, and what its own decoder brings back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from rslwm.evals.visual import psnr, ssim
from rslwm.latents.base import Encoder
from rslwm.latents.normaliser import effective_rank


@dataclass(frozen=True)
class Inspection:
    """Figures of one encoder; ``mean`` and ``std`` are the lowest, the median and the highest over its channels."""

    frames: int
    latents: tuple[int, ...]
    """(h, w, C)."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    effective_rank: float
    """Of C; see :func:`rslwm.latents.normaliser.effective_rank`."""
    batch: int
    frames_per_second: float
    """In the median batch, loading not counted; from pixels to latents."""
    psnr: float | None = None
    """dB, of the encoder's own decoder; None where it has none."""
    ssim: float | None = None


@torch.no_grad()
def inspect(encoder: Encoder, frames: Tensor, batch: int) -> Inspection:
    """Encode frames (N, H, W, 3), float in [0, 1], in batches, and decode them if the encoder can."""
    encoder.encode(frames[:1, None])  # loads the weights
    parts, seconds = [], []
    for part in frames.split(batch):
        began = time.perf_counter()
        parts.append(encoder.encode(part[:, None])[:, 0].float().cpu())
        seconds.append((time.perf_counter() - began) / len(part))
    latents = torch.cat(parts)
    flat = latents.flatten(0, -2)
    mean, std = ((float(x.min()), float(x.median()), float(x.max())) for x in (flat.mean(0), flat.std(0)))
    quality: tuple[float | None, float | None] = None, None
    if encoder.decodes:
        images = torch.cat([encoder.decode(part[:, None].to(frames.device)) for part in latents.split(batch)])
        quality = float(psnr(images, frames[:, None]).mean()), float(ssim(images, frames[:, None]).mean())
    rank, speed = effective_rank(latents), 1 / median(seconds)
    return Inspection(len(frames), tuple(latents.shape[1:]), mean, std, rank, batch, speed, *quality)

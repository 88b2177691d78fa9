"""How many futures are imagined at once: a formula of sizes, so that it is the same on every machine."""

from __future__ import annotations

import torch

from rslwm.config import DiTConfig, PlanConfig

MEGABYTE = 2**20


def row_bytes(dit: DiTConfig, latent: tuple[int, int, int], config: PlanConfig, dtype: torch.dtype) -> int:
    """Memory of one imagined future of ``config.horizon`` frames.

    Counted are the activations of the transformer's widest layer for the frames that one forward pass computes (all
    of the window with ``full_window``, which slides), its own keys and values, and the float32 latents around it. The
    context is shared by all futures and not counted.

    Args:
        latent: (h, w, C) of a frame.
        dtype: of matrix products.
    """
    h, w, channels = latent
    tokens = h * w // dit.patch**2
    attention = 7 * dit.width + 2 * dit.heads * tokens  # residual, norm, qkv, rotated q and k; scores and weights
    feed_forward = 14 * dit.width  # residual, modulated, both halves of 8/3 widths, gate and product
    head = dit.width + 4 * dit.wide_head
    frames = dit.max_frames if config.sampling.full_window else 1
    forward = frames * tokens * max(attention, feed_forward, head)
    key_values = max(frames, config.horizon) * 2 * dit.depth * tokens * dit.width
    latents = 5 * config.horizon * h * w * channels  # noise, frames, their stack, difference and square
    return (forward + key_values) * dtype.itemsize + latents * torch.float32.itemsize


def rows_at_once(dit: DiTConfig, latent: tuple[int, int, int], config: PlanConfig, dtype: torch.dtype) -> int:
    """Futures that ``config.memory_mb`` has room for; at least one."""
    return max(1, int(config.memory_mb * MEGABYTE / row_bytes(dit, latent, config, dtype)))

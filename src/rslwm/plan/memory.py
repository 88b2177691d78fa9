"""How many futures are imagined at once: a formula of sizes, so that it is the same on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rslwm.model.world_model import WorldModelConfig

if TYPE_CHECKING:
    from rslwm.plan.base import PlanConfig

MEGABYTE = 2**20
ALLOCATOR = 2.0
"""Memory of a process per byte of living tensors: not all freed blocks are given back (with glibc: 1.2 to 2)."""


def row_bytes(
    world_model: WorldModelConfig, latent: tuple[int, int, int], config: PlanConfig, dtype: torch.dtype
) -> int:
    """Memory of one imagined future.

    Counted are the activations of the transformer's widest layer, over the frames of one forward pass; the keys and
    values of these and of the frames imagined before; and the float32 latents around them. All futures share the
    context, which isn't counted.

    Args:
        latent: (h, w, C) of a frame.
        dtype: of matrix products.
    """
    dit, (h, w, channels) = world_model.dit, latent
    tokens = h * w // dit.patch**2
    frames = _frames_of_a_pass(world_model, config)
    sees = dit.max_frames * (tokens if dit.temporal == "joint" else 1)
    # Elements a token. Feed-forward: residual, modulated, both halves of 8/3 widths, gate, product; as much in
    # attention, which turns queries and keys in float32. Scores are held as they are, joined and as weights.
    activations = max(16 * dit.width, dit.width + 4 * dit.wide_head) + 3 * dit.heads * sees
    modulations = 12 * dit.depth * dit.width
    # Of frames imagined before; held twice while the next is sampled, by the state before it and by the one after.
    key_values = dit.depth * dit.width * 2 * (frames - 1 + 2 * (config.horizon - 1))
    latents = 5 * config.horizon + (3 * dit.max_frames if config.sampling.full_window else 0)
    elements = tokens * (frames * activations + key_values) + frames * modulations
    return int(ALLOCATOR * (elements * dtype.itemsize + latents * h * w * channels * torch.float32.itemsize))


def _frames_of_a_pass(world_model: WorldModelConfig, config: PlanConfig) -> int:
    """Frames that a forward pass computes for a future: the new one, and those before it that aren't cached yet."""
    if config.sampling.full_window:
        return world_model.dit.max_frames
    return 1 if config.horizon == 1 and world_model.alignment == "incoming" else 2


def rows_at_once(
    world_model: WorldModelConfig, latent: tuple[int, int, int], config: PlanConfig, dtype: torch.dtype
) -> int:
    """Futures that ``config.memory_mb`` has room for; at least one."""
    return max(1, int(config.memory_mb * MEGABYTE / row_bytes(world_model, latent, config, dtype)))

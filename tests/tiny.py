"""Tiny models with random weights everywhere, and what to feed them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiT, DiTConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.types import end_effector_spec

TINY = DiTConfig(width=32, depth=2, heads=2, patch=2, max_frames=4)
GRID, CHANNELS, ACTIONS = (4, 4), 3, 7


def disturb(module: nn.Module, spread: float, g: torch.Generator) -> None:
    """The zero weights of an initialisation would hide every mistake."""
    for parameter in module.parameters():
        parameter.data += spread * torch.randn(parameter.shape, generator=g)


def tiny_dit(spread: float = 0.1, **changes: Any) -> DiT:
    """Of latents (B, T, 4, 4, 3) and seven actions."""
    g = torch.Generator().manual_seed(0)
    dit = DiT(replace(TINY, **changes), CHANNELS, ACTIONS, g)
    disturb(dit, spread, g)
    return dit.requires_grad_(False)


def tiny_world_model(plugin: Path, dit: DiTConfig = TINY, **changes: Any) -> WorldModel:
    """Over the space of the ``plugin`` fixture, of latents and actions like those of :func:`tiny_dit`."""
    space = LatentSpace(SpaceConfig(reference=f"{plugin}:PatchMean", image_size=32))
    g = torch.Generator().manual_seed(0)
    config = WorldModelConfig(dit=dit, **changes)
    model = WorldModel(space, end_effector_spec(0.05, 0.25), config, g, fingerprint="abc")
    disturb(model.dit, 0.1, g)
    return model.eval()


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> bool:
    """Relative to the largest value; false where one of them is not finite."""
    return bool((ours - theirs).abs().max() <= tolerance * theirs.abs().max())

"""A world model with random weights over a made-up latent space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rslwm.bench.benchmark import Benchmark
from rslwm.compute import generator
from rslwm.latents.space import EXTERNAL, ExternalConfig, LatentSpace, SpaceConfig
from rslwm.model.dit import SIZES, DiTConfig, forward_flops
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.types import end_effector_spec

SEED = 0
SPEC = end_effector_spec(0.05, 0.25)
SPREAD = 0.02
"""Standard deviation of what is added to every weight: fresh ones are zero in places, and would hide an error there."""


@dataclass
class LatentsBenchmark(Benchmark):
    """A benchmark of made-up latents; speed doesn't depend on what they hold."""

    grid: int = 16
    """How many rows, and as many columns, the latent grid has."""
    channels: int = 96
    """How many channels a latent has."""

    def space(self, image_size: int = 0) -> LatentSpace:
        """A latent space of this shape; frames have the side of the grid if no other is given."""
        made_up = ExternalConfig("made-up", "floor", (self.grid, self.grid), self.channels)
        return LatentSpace(SpaceConfig(EXTERNAL, image_size or self.grid, external=made_up)).eval()

    def latents(self, rows: int, frames: int, drawn: torch.Generator) -> Tensor:
        """Standard normal numbers (rows, frames, h, w, C)."""
        return torch.randn((rows, frames, self.grid, self.grid, self.channels), generator=drawn)


@dataclass
class ModelBenchmark(LatentsBenchmark):
    """A benchmark of a world model over made-up latents; speed doesn't depend on its weights."""

    size: Literal["S", "B", "L", "XL", "demo"] = "S"
    """Size of the transformer: one of the paper's, or the one that the demo trains."""

    @property
    def dit(self) -> DiTConfig:
        """Of the transformer."""
        return SIZES.get(self.size, DiTConfig())

    def world_model(self) -> WorldModel:
        """All its weights are small and none is zero."""
        drawn = generator(SEED, "bench weights")
        model = WorldModel(self.space(), SPEC, WorldModelConfig(dit=self.dit), drawn)
        with torch.no_grad():
            for parameter in model.dit.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=drawn), alpha=SPREAD)
        return model.to(self.where).eval()

    def pass_flops(self, model: WorldModel, frames: int = 1) -> float:
        """FLOPs of a forward pass over new frames of one row. What they look back to adds 0.2 % to a DiT-S and isn't
        counted."""
        return forward_flops(model.dit, (self.grid, self.grid), frames)

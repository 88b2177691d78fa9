"""A world model with random weights over a made-up latent space, and the straightforward transformer with the same."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor

from rslwm.bench.config import ModelBenchConfig
from rslwm.bench.straightforward.dit import StraightforwardDiT
from rslwm.bench.straightforward.sampler import StraightforwardSampler
from rslwm.compute import ComputeConfig, device, generator
from rslwm.latents.base import Encoder, EncoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import SIZES, DiTConfig
from rslwm.model.flow import FlowMatching
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.serialisation import ConfigError
from rslwm.types import LatentSpec, end_effector_spec

SPEC = end_effector_spec(0.05, 0.25)
SPREAD = 0.02
"""Standard deviation of what is added to every weight: fresh ones are zero in places, and would hide an error there."""


class MeanColour(Encoder):
    """The mean colour of every cell of the grid, in all channels: a latent space of any shape."""

    def __init__(self, grid: int, channels: int) -> None:
        super().__init__(EncoderConfig(), image_size=grid)
        self.spec = LatentSpec("mean-colour", "floor", (grid, grid), channels)

    def encode(self, frames: Tensor) -> Tensor:
        h, w = self.spec.grid
        cells = reduce(frames, "B T (h p) (w q) rgb -> B T h w 1", "mean", h=h, w=w)
        return cells.expand(*cells.shape[:-1], self.spec.channels)


def world_model(config: ModelBenchConfig, compute: ComputeConfig) -> WorldModel:
    """Weights depend on ``config.seed`` alone; all of them are small and none is zero.

    Raises:
        ConfigError: the context leaves no room for a new frame.
    """
    space = LatentSpace(SpaceConfig("mean-colour", config.grid), MeanColour(config.grid, config.channels))
    dit = SIZES[config.size] if config.size in SIZES else DiTConfig()
    if not 0 < config.context < dit.max_frames:
        raise ConfigError(f"context is {config.context}; size {config.size} takes 1 to {dit.max_frames - 1} frames")
    drawn = generator(config.seed, "bench weights")
    model = WorldModel(space, SPEC, WorldModelConfig(dit=dit), drawn)
    with torch.no_grad():
        for parameter in model.dit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=drawn), alpha=SPREAD)
    return model.to(device(compute)).eval()


def straightforward(model: WorldModel) -> StraightforwardSampler:
    """The same weights and the same flow, computed the published way."""
    assert isinstance(model.objective, FlowMatching)
    dit = StraightforwardDiT(model.config.dit, model.space.spec.channels, model.action_spec.dims)
    dit.load_state_dict(model.dit.state_dict())
    return StraightforwardSampler(dit.to(model.device).eval(), model.objective.gamma, model.objective.context_level)


def led_here(actions: Tensor) -> Tensor:
    """Actions between frames (B, T-1, A) -> the one that led to each frame (B, T, A), zeros for the first."""
    return F.pad(actions, (0, 0, 1, 0))

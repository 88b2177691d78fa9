"""Rollouts the published way: the whole window through the transformer at every denoising step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.straightforward.dit import StraightforwardDiT
from rslwm.model.flow import FlowMatching
from rslwm.model.world_model import WorldModel


@dataclass(frozen=True)
class StraightforwardSampler:
    """Euler steps of a flow, one frame at a time.

    Args:
        gamma: shift of the noise levels linspace(1, 0, steps + 1).
        context_level: noise level that context frames are declared to have.
    """

    dit: StraightforwardDiT
    gamma: float
    context_level: float

    @torch.no_grad()
    def rollout(self, context: Tensor, actions: Tensor, noise: Tensor, steps: int) -> Tensor:
        """F frames (B, F, h, w, C) after the context (B, T, h, w, C).

        Args:
            actions: (B, T+F, A), the one that conditions each frame.
            noise: (B, F, h, w, C), where the new frames start from.
        """
        linear, window = torch.linspace(1, 0, steps + 1, dtype=torch.float64), self.dit.config.max_frames
        grid = (self.gamma * linear / (1 + (self.gamma - 1) * linear)).tolist()
        frames = context
        for future in range(noise.shape[1]):
            past, x = frames[:, 1 - window :], noise[:, future : future + 1]
            used = actions[:, : frames.shape[1] + 1][:, -window:]
            levels = x.new_full(used.shape[:2], self.context_level)
            for level, following in pairwise(grid):
                levels[:, -1] = level
                velocity = self.dit(torch.cat([past, x], 1), levels, used)[:, -1:]
                x = x + (following - level) * velocity.float()
            frames = torch.cat([frames, x], 1)
        return frames[:, context.shape[1] :]


def same_weights(model: WorldModel) -> StraightforwardSampler:
    """The weights and the flow of a world model, computed the published way."""
    assert isinstance(model.objective, FlowMatching)
    dit = StraightforwardDiT(model.config.dit, model.space.spec.channels, model.action_spec.dims)
    dit.load_state_dict(model.dit.state_dict())
    return StraightforwardSampler(dit.to(model.device).eval(), model.objective.gamma, model.objective.context_level)


def led_here(actions: Tensor) -> Tensor:
    """Actions between frames (B, T-1, A) -> the one that led to each frame (B, T, A), zeros for the first."""
    return F.pad(actions, (0, 0, 1, 0))

"""Acts by inverse dynamics: reads from the current frame and the goal which action comes next, and imagines nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rslwm.actors.base import ACTORS, Actor, Observation
from rslwm.model.world_model import WorldModel


@ACTORS.register("inverse")
class InverseDynamics(Actor):
    """One forward pass of a probe a decision, where a planner imagines hundreds of frames.

    Args:
        model: encodes what is seen where the environment shows frames only.
        goals: (B, 1, h, w, C), the wanted latents.
        read: pairs of latents (B, 2, h, w, C), now and the goal, -> the next action (B, A), normalised.
    """

    def __init__(self, model: WorldModel, goals: Tensor, read: Callable[[Tensor], Tensor]) -> None:
        self.model, self.goals, self.read, self.spec = model, goals, read, model.action_spec

    def act(self, observation: Observation) -> Tensor:
        latents = observation.latents
        if latents is None:
            assert observation.frames is not None, "the environment shows neither latents nor frames"
            latents = self.model.encode(observation.frames[:, -1:].to(self.model.device)).float()
        return self.read(torch.cat([latents[:, -1:], self.goals], 1)).clamp(-1, 1)

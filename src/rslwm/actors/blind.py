"""Actors that look at nothing: what any other one has to beat, and actions that are settled beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

from rslwm.actors.base import ACTORS, Actor, Observation
from rslwm.compute import generator


@ACTORS.register("random")
class Random(Actor):
    """Uniform between the bounds; every episode is played alike, another ``seed`` plays others."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def start(self, observation: Observation) -> None:
        self._draw = generator(self.seed, "random actor")

    def act(self, observation: Observation) -> Tensor:
        batch, _, dims = observation.actions.shape
        return (2 * torch.rand((batch, dims), generator=self._draw) - 1).to(observation.actions.device)


@ACTORS.register("still")
class Still(Actor):
    """Every number is 0, halfway between its bounds, but an open gripper: nothing moves where actions are deltas."""

    def act(self, observation: Observation) -> Tensor:
        batch, _, dims = observation.actions.shape
        action = torch.zeros(batch, dims, device=observation.actions.device)
        action[:, -1] = 1
        return action


@ACTORS.register("recorded")
class Recorded(Actor):
    """Plays the actions (B, F, A), normalised, one after the other."""

    def __init__(self, actions: Tensor) -> None:
        self.actions = actions
        self._played = 0

    def start(self, observation: Observation) -> None:
        self._played = 0

    def act(self, observation: Observation) -> Tensor:
        """The next action. Raises :class:`IndexError` after the last."""
        self._played += 1
        return self.actions[:, self._played - 1]

    def following(self) -> Tensor | None:
        return self.actions[:, self._played] if self._played < self.actions.shape[1] else None

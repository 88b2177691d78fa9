"""Actions that know nothing: what any other actor has to beat."""

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

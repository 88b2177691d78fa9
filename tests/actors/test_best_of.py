"""A policy that imagines before it acts, where what it imagines is true."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.behaviour_cloning import BehaviourCloning
from rslwm.actors.best_of import BestOf, BestOfConfig, judged
from rslwm.actors.blind import Random
from rslwm.actors.expert import Demonstrators, Expert
from rslwm.actors.perceiving_expert import PerceivingExpert
from rslwm.actors.sight import SightConfig
from rslwm.compute import seeded
from rslwm.envs.base import play
from rslwm.envs.imagined import Imagination, Imagined
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.envs.trials import succeeded
from rslwm.model.sampler import SamplingConfig
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.sim.record import restore
from rslwm.types import DataError
from tiny import draw, tiny_world_model

CONFIG = SimConfig(cameras=())
SEEING = SimConfig(image_size=32)


class Clumsy(Expert):
    """The expert with a tremble of its own, from a stream that its forks go on with."""

    def start(self, observation: Observation) -> None:
        self.draw = torch.Generator().manual_seed(0)

    def act(self, observation: Observation) -> Tensor:
        action = super().act(observation)
        action[:, :3] += torch.tensor([0.45, -0.45, 0.0])
        return action.clamp(-1, 1)


def truth(seen: list[Observation]) -> Tensor:
    """How long the task has been done."""
    return torch.cat([one.success for one in seen], 1).float().sum(1)


def table(config: SimConfig = CONFIG) -> SimulatedTabletop:
    return SimulatedTabletop(config, frame_skip=2)


def test_probe():
    world, imagined = table(), table()
    starts = tuple(s for f in ("push", "pick") for s in world.starts(f, 4))
    for bias in (1,):
        plain = Clumsy(world.spec)
        print("plain", succeeded(plain, world, starts))
        for n, e, h in ((8, 20, 20),(8, 5, 20),):
            b = BestOf(plain, imagined, truth, BestOfConfig(n, h, e, noise=0.5))
            import time; t=time.time()
            print(n, e, h, succeeded(b, world, starts), time.time()-t)

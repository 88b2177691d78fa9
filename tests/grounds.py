"""Playgrounds of the tests: tiny world models, alone or beside the true simulator."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from rslwm.compute import ComputeConfig
from rslwm.data.config import DataConfig
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.envs.worlds import TabletopWorld
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.play.beginnings import Simulated
from rslwm.play.playground import TRUTH, Pane, PlayConfig, Playground, imagined
from rslwm.sim.config import SimConfig
from tiny import tiny_world_model

COMPUTE = ComputeConfig(device="cpu", dtype="float32")
PLAY = PlayConfig(sampling=SamplingConfig(steps=2))
DATA = DataConfig(image_size=32, sim=SimConfig(image_size=32))
TABLE = SimulatedTabletop.of_data(DATA)


def skipping(plugin: Path) -> WorldModel:
    """A tiny model whose actions are those of two control steps, and which paints every patch in one colour."""
    model = tiny_world_model(plugin)
    model.space.decode = lambda latents: latents.repeat_interleave(8, 2).repeat_interleave(8, 3).sigmoid()  # type: ignore[method-assign]
    model.action_spec, model.data = TABLE.spec, DATA
    return model


def ground(plugin: Path, models: int = 1, **changes: object) -> Playground:
    """The simulator and so many tiny models."""
    truth = Pane(TRUTH, "reference", TabletopWorld(TABLE, TABLE.config.families))
    made = [skipping(plugin) for _ in range(models)]
    panes = [Pane(f"tiny-{i}", "floor", imagined(model, PLAY, COMPUTE), model) for i, model in enumerate(made)]
    known = Playground((truth, *panes), Simulated(TABLE, 2), PLAY, COMPUTE, seen_by_eyes=True)
    return replace(known, **changes)  # type: ignore[arg-type]


def drawn(count: int, seed: int = 0) -> np.ndarray:
    """Actions (count, 7)."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, 7))

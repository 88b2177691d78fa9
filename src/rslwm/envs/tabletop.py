"""The embedded simulator as an environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.data.config import DataConfig
from rslwm.data.frames import resize
from rslwm.envs.base import ENVIRONMENTS, Environment
from rslwm.sim.config import SimConfig
from rslwm.sim.tabletop import SPEC, Snapshot, Tabletop
from rslwm.types import ActionSpec

Snapshots = tuple[Snapshot, ...]

_TRIALS = 1  # the third number of the seeds of trials: neither those of recordings nor those of lessons


@ENVIRONMENTS.register("tabletop")
class SimulatedTabletop(Environment[Snapshots]):
    """Every place is a moment of the one simulator, which goes from one to the next; that costs a tenth of a step, and
    all share a renderer. States restore exactly, noise in the dynamics included.

    Args:
        config: image size, shadows, cameras (none: no frames, a third of the time) and noise of the dynamics.
        frame_skip: control steps of an action, each of which does an equal part of it.
        shown: pixels a side of the frames that it shows; as rendered by default.
    """

    def __init__(self, config: SimConfig, frame_skip: int = 1, shown: int = 0) -> None:
        self.config, self.frame_skip, self.shown = config, frame_skip, shown or config.image_size
        self.table = Tabletop(config.image_size, config.shadows, config.dynamics_noise)
        self._spec = SPEC.composed(frame_skip)
        self._places: Snapshots = ()

    @classmethod
    def of_data(cls, config: DataConfig, frames: bool = True) -> Self:
        cameras = tuple(config.camera.split(",")) if config.camera else config.sim.cameras[:1]
        cameras = cameras if frames else ()
        return cls(replace(config.sim, cameras=cameras), config.frame_skip, config.image_size)

    @property
    def spec(self) -> ActionSpec:
        return self._spec

    @property
    def random(self) -> bool:
        return self.config.dynamics_noise > 0

    def starts(self, family: str, count: int, seed: int = 0, another: bool = False) -> Snapshots:
        """Where that many episodes of a family begin, none of which any recording has.

        The configuration's distractors and appearance are what the table has and looks like: those of no recording are
        out of distribution. With ``another`` so is the task, on the same tables: what instruction and rule of success
        ask for is another object, another place or a drawer moved the other way. Raises ConfigError: an unknown family,
        or more distractors than fit, or too few for another task.
        """
        places = []
        for number in range(count):
            at = (seed, number, _TRIALS)
            self.table.reset(at, family, self.config.distractors, self.config.appearance, another)
            places.append(self.table.save())
        return tuple(places)

    def reset(self, state: Snapshots) -> Observation:
        return self._visit(torch.zeros(len(state), 0, SPEC.dims), state, lambda place: None)

    def go(self, state: Snapshots) -> None:
        self._places = state

    def step(self, actions: Tensor, following: Tensor | None = None) -> Observation:
        """The true outcome, after ``frame_skip`` control steps. Raises :class:`ValueError` for an action that isn't
        finite or of the wrong shape."""
        low, high = np.array(self.spec.low), np.array(self.spec.high)
        wanted = low + (actions.cpu().double().numpy() + 1) / 2 * (high - low)
        wanted[:, [mode == "delta" for mode in SPEC.modes]] /= self.frame_skip

        def do(place: int) -> None:
            for _ in range(self.frame_skip):
                self.table.step(wanted[place])

        return self._visit(actions[:, None].cpu(), self._places, do)

    def fork(self, state: Snapshots, candidates: int) -> Snapshots:
        return tuple(place for place in state for _ in range(candidates))

    def gathered(self, moments: Sequence[Snapshot]) -> Snapshots:
        return tuple(moments)

    def cameras(self, state: Snapshots) -> Tensor:
        matrices = []
        for place in state:
            self.table.load(place)
            matrices.append([self.table.camera(name) for name in self.config.cameras])
        return torch.from_numpy(np.array(matrices)) * torch.tensor([self.shown, self.shown, 1.0])[:, None]

    def reseeded(self, state: Snapshots, seed: int) -> Snapshots:
        return tuple(place.reseeded(seed) for place in state)

    def _visit(self, actions: Tensor, places: Snapshots, do: Callable[[int], None]) -> Observation:
        """Do something in every place and look at what came of it."""
        reached, frames = [], []
        for number, place in enumerate(places):
            self.table.load(place)
            do(number)
            reached.append(self.table.save())
            if self.config.cameras:
                views = [self.table.render(camera) for camera in self.config.cameras]
                frames.append(np.concatenate([*resize(np.stack(views), self.shown)], 1))
        vectors = [place.state.vectors() for place in reached]
        self._places = tuple(reached)
        return Observation(
            actions,
            frames=torch.from_numpy(np.stack(frames))[:, None].float() / 255 if frames else None,
            truth={name: torch.from_numpy(np.stack([v[name] for v in vectors]))[:, None] for name in vectors[0]},
            success=torch.tensor([[place.success] for place in reached]),
            instructions=tuple(place.task.instruction for place in reached),
            state=self._places,
        )

    def close(self) -> None:
        """Free the graphics context."""
        self.table.close()

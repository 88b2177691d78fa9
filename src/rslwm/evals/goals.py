"""Goals in the true world: where they come from, how far blind actors get, and how far perfect predictions would."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.blind import Recorded
from rslwm.actors.planner import PlannerConfig
from rslwm.compute import generator
from rslwm.envs.base import Environment, play
from rslwm.evals.reaching import Layout, Reached, TruePlanner, reach
from rslwm.evals.truth import Recording, Truth
from rslwm.plan.base import PlanConfig, stand_still
from rslwm.serialisation import ConfigError
from rslwm.tensors import read_weights, write_tensors
from rslwm.types import ActionSpec, Progress, silent

log = logging.getLogger(__name__)

KINDS = ("expert", "play")
"""Goals are what the recorded episode shows some steps later, or what random actions lead to from the same start."""
BLIND = ("still", "random", "repeat")
"""Actors that see nothing: they do nothing, act at random, or repeat the last action."""
ORACLE = "oracle"
FILE = "goals.safetensors"
_BY_ACTOR = ("steps", "left")
"""Columns (4, N)."""


@dataclass(frozen=True)
class GoalsConfig:
    """Goals in the true world, and the search that is to reach them."""

    distances: tuple[int, ...] = (2, 4)
    """How many steps before the goal an attempt starts."""
    windows: int = 8
    """Held-out starts for every distance, each of which has a goal of either kind."""
    budget: int = 2
    """An attempt may take this many times the distance in steps."""
    tolerance: float = 2.0
    """Centimetres that the gripper and every object may be away from where they are in the goal."""
    context: int = 2
    """Frames that are seen before the first decision, the start included; at least 2."""
    search: PlannerConfig = field(
        default_factory=lambda: PlannerConfig(PlanConfig(candidates=16, iterations=2, elites=4))
    )
    """How planners plan, over the world model and, for the ceiling, over the true world."""

    @property
    def imagined(self) -> float:
        """Frames that are imagined for a decision."""
        plan = self.search.plan
        return plan.candidates * plan.iterations * plan.horizon / self.search.execute


@dataclass(frozen=True)
class Goals:
    """N attempts, all kinds and distances."""

    windows: np.ndarray
    """(N, 2) of (episode, first context frame)"""
    distance: Tensor
    """(N,), steps that the goal is away"""
    kind: Tensor
    """(N,), a place in :data:`KINDS`"""
    frames: Tensor
    """(N, H, W, 3) in [0, 1], the images of the goals"""
    positions: Tensor
    there: Tensor
    steps: Tensor
    """(4, N) of :attr:`Reached.steps`, of the actors of :data:`BLIND` and of the oracle"""
    left: Tensor
    """(4, N) of :attr:`Reached.left`"""

    @property
    def layout(self) -> Layout:
        """Where everything is in the goals."""
        return Layout(self.positions, self.there)

    @property
    def solved(self) -> Tensor:
        """(N,) bool, whether an attempt is at its goal from the start."""
        return self.steps[0] == 0

    @property
    def names(self) -> np.ndarray:
        """(N,), the kinds by name."""
        return np.array(KINDS)[self.kind.numpy()]

    def of(self, distance: int) -> Goals:
        """Those so far away that aren't reached from the start."""
        return self[(self.distance == distance) & ~self.solved]

    def __getitem__(self, chosen: Tensor) -> Goals:
        def column(name: str) -> Tensor:
            values = getattr(self, name)
            return values[:, chosen] if name in _BY_ACTOR else values[chosen]

        windows = self.windows[chosen.numpy()]
        return Goals(windows, **{f.name: column(f.name) for f in fields(self) if f.name != "windows"})

    def attempts(self, actor: str) -> Reached:
        """What an actor reached: one of :data:`BLIND`, or the oracle."""
        number = (*BLIND, ORACLE).index(actor)
        return Reached(self.steps[number], self.left[number])

    def floor(self) -> Reached:
        """Of the blind actor that reached most goals of a kind, for each of these, which are all equally far."""
        best = torch.zeros_like(self.kind)
        for kind in self.kind.unique():
            these = self.kind == kind
            best[these] = (self.steps[: len(BLIND), these] > 0).sum(1).argmax()
        return Reached(self.steps.gather(0, best[None])[0], self.left.gather(0, best[None])[0])

    @classmethod
    def joined(cls, parts: Sequence[Goals]) -> Goals:
        """All attempts of some parts."""

        def column(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts], -1 if name in _BY_ACTOR else 0)

        windows = np.concatenate([part.windows for part in parts])
        return cls(windows, **{f.name: column(f.name) for f in fields(cls) if f.name != "windows"})

    def save(self, folder: Path) -> None:
        """Write everything."""
        tensors = {f.name: torch.as_tensor(getattr(self, f.name)) for f in fields(self)}
        write_tensors(tensors, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Goals:
        """Inverse of :meth:`save`."""
        tensors = read_weights(folder / FILE)
        return cls(tensors.pop("windows").numpy(), **tensors)


@dataclass(frozen=True)
class GoalRecording(Recording[Goals]):
    """The goals of a study, and what reaches them without a world model."""

    settings: GoalsConfig

    @property
    def name(self) -> str:
        return "goals"

    def make(self, truth: Truth, out: Path, progress: Progress = silent) -> None:
        if self.settings.context < 2:
            raise ConfigError(f"goals.context is {self.settings.context}; 2 frames show the last action")
        parts = list[Goals]()
        for distance in self.settings.distances:
            starts = _Starts.of(truth, distance, self.settings)
            for kind, goal in enumerate((starts.expert(), starts.play())):
                progress(len(parts), len(KINDS) * len(self.settings.distances), f"{KINDS[kind]}, {distance} steps away")
                parts.append(_attempted(starts, kind, goal, self.settings, truth.blind))
        found = Goals.joined(parts)
        if found.solved.any():
            log.info("%d of %d goals are reached from the start and left out", found.solved.sum(), len(found.windows))
        found.save(out)

    def open(self, folder: Path) -> Goals:
        return Goals.load(folder)


@dataclass(frozen=True)
class _Starts:
    """N held-out moments, and their goals ``distance`` steps away."""

    truth: Truth
    windows: np.ndarray
    """(N, 2) of (episode, first context frame)"""
    moments: np.ndarray
    """(N, 2) of (episode, step)"""
    state: Any
    """Of all N places"""
    alone: list[Any]
    """N states of one place each"""
    past: Tensor
    """(N, T-1, A)"""
    distance: int

    @classmethod
    def of(cls, truth: Truth, distance: int, settings: GoalsConfig) -> _Starts:
        context = settings.context
        windows = truth.windows(context + distance, settings.windows, f"goals {distance}")
        moments = windows + np.array([0, (context - 1) * truth.corpus.config.frame_skip])
        alone = [truth.state(moment[None]) for moment in moments]
        return cls(truth, windows, moments, truth.state(moments), alone, truth.actions(windows, context), distance)

    def expert(self) -> Observation:
        """What the recorded episodes show then."""
        later = self.moments + np.array([0, self.distance * self.truth.corpus.config.frame_skip])
        return self.truth.environment.reset(self.truth.state(later))

    def play(self) -> Observation:
        """What random actions lead to."""
        actions = self.uniform("play", self.distance)
        return play(Recorded(actions), self.truth.environment, self.state, self.distance).seen

    def uniform(self, concern: str, steps: int) -> Tensor:
        """Random actions (N, F, A) between the bounds."""
        shape = (len(self.windows), steps, self.truth.environment.spec.dims)
        return 2 * torch.rand(shape, generator=self.generator(concern)) - 1

    def generator(self, concern: str) -> torch.Generator:
        return generator(self.truth.seed, f"goals {self.distance} {concern}")


def _attempted(starts: _Starts, kind: int, seen: Observation, settings: GoalsConfig, world: Environment[Any]) -> Goals:
    """Goals of a kind, seen in the last frame, and how far blind actors and the oracle get."""
    assert seen.frames is not None, "the true world shows no frames"
    goal, name = Layout.of(seen.truth), KINDS[kind]
    budget, count = settings.budget * starts.distance, len(starts.windows)
    random, drawn = starts.uniform(f"random {name}", budget), starts.generator(f"oracle {name}")

    def attempt(actor: Actor, state: Any, here: slice = slice(None)) -> Reached:
        return reach(actor, world, state, starts.past[here], goal[here], budget, settings.tolerance)

    attempts = [attempt(Recorded(actions), starts.state) for actions in blind(world.spec, starts.past, random)]
    one_by_one = []  # whoever is at the goal needs no further plan
    for place, state in enumerate(starts.alone):
        here = slice(place, place + 1)
        one_by_one.append(attempt(TruePlanner(world, goal[here], settings.search, drawn), state, here))
    attempts.append(Reached(torch.cat([one.steps for one in one_by_one]), torch.cat([one.left for one in one_by_one])))
    return Goals(
        starts.windows,
        torch.full((count,), starts.distance),
        torch.full((count,), kind),
        seen.frames[:, -1],
        goal.positions,
        goal.there,
        torch.stack([one.steps for one in attempts]),
        torch.stack([one.left for one in attempts]),
    )


def blind(spec: ActionSpec, past: Tensor, random: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Actions (N, F, A) of the actors of :data:`BLIND`, after the actions ``past`` (N, T-1, A)."""
    steps = random.shape[1]
    return stand_still(spec, past, steps), random, past[:, -1:].expand(-1, steps, -1)

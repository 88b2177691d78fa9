"""Reaching a goal: gripper and objects come to lie where they lie then, in the true world and within a budget."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.planner import PlannerConfig
from rslwm.envs.base import Environment
from rslwm.evals.base import NotAvailable
from rslwm.plan.base import PLANNERS, Evaluate, stand_still

OTHERWISE = 1
"""Number of the course that chance takes where the oracle tries its candidates."""


@dataclass(frozen=True)
class Layout:
    """Where the gripper and the objects are in B places."""

    positions: Tensor
    """(B, 1 + n, 3) in metres, the gripper's first"""
    there: Tensor
    """(B, 1 + n), 0 for an object that isn't on the table"""

    @classmethod
    def of(cls, truth: Mapping[str, Tensor]) -> Layout:
        """Of the last frame of an observation's truth.

        Raises:
            NotAvailable: the world doesn't tell where gripper and objects are.
        """
        for name in ("gripper_position", "object_position", "object_present"):
            if name not in truth:
                raise NotAvailable(f"the true world doesn't tell {name}: nobody could say whether a goal is reached")
        gripper, objects, present = (
            truth[name][:, -1].float() for name in ("gripper_position", "object_position", "object_present")
        )
        return cls(
            torch.cat([gripper, objects], 1).unflatten(1, (-1, 3)),
            torch.cat([torch.ones_like(present[:, :1]), present], 1),
        )

    def __getitem__(self, places: Any) -> Layout:
        return Layout(self.positions[places], self.there[places])

    def fork(self, candidates: int) -> Layout:
        """K copies of every place, as :meth:`rslwm.envs.base.Environment.fork` orders them."""
        return Layout(*(x.repeat_interleave(candidates, 0) for x in (self.positions, self.there)))

    def distances(self, truth: Mapping[str, Tensor]) -> Tensor:
        """Centimetres (B, 1 + n) between what is true now and these positions; 0 for what isn't there."""
        return 100 * (Layout.of(truth).positions - self.positions).norm(dim=-1) * self.there

    def farthest(self, truth: Mapping[str, Tensor]) -> Tensor:
        """Centimetres (B,) that the gripper, or the object that is farthest from its position, has to go."""
        return self.distances(truth).amax(1)


@dataclass(frozen=True)
class Reached:
    """What came of B attempts."""

    steps: Tensor
    """(B,), after how many the goal was reached first; -1 where it wasn't, 0 where it was from the start"""
    left: Tensor
    """Centimetres (B,) that were left then, or when the budget was spent; see :meth:`Layout.farthest`"""
    seconds: float = 0.0
    """Wall time of a decision of one place"""


def reach(
    actor: Actor,
    world: Environment[Any],
    state: Any,
    past: Tensor,
    goal: Layout,
    budget: int,
    tolerance: float,
    context: Tensor | None = None,
) -> Reached:
    """Let an actor that sees frames act until all places are at their goals, or for ``budget`` steps.

    Args:
        past: (B, T-1, A), the actions before the start, with the frames ``context`` (B, T-1, H, W, 3) before them.
        tolerance: centimetres.
    """
    seen = world.reset(state)
    frames = seen.frames if context is None or seen.frames is None else torch.cat([context, seen.frames], 1)
    seen = replace(seen, actions=past, frames=frames, latents=None)
    actor.start(seen)
    left = goal.farthest(seen.truth)
    steps = torch.where(left <= tolerance, 0, -1)
    taken, decisions = 0.0, 0
    while decisions < budget and (steps < 0).any():
        started = time.perf_counter()
        action = actor.act(seen).float().cpu()
        taken, decisions = taken + time.perf_counter() - started, decisions + 1
        seen = replace(world.step(action), latents=None)
        now, open_ = goal.farthest(seen.truth), steps < 0
        left = torch.where(open_, now, left)
        steps = torch.where(open_ & (now <= tolerance), decisions, steps)
    return Reached(steps, left, taken / max(1, decisions * len(steps)))


class TruePlanner(Actor):
    """A planner whose model is the true world: what its search makes of perfect predictions.

    It is told the true layout of the goal, and costs are centimetres. Chance takes another course than in the world
    that it acts in.
    """

    def __init__(
        self, world: Environment[Any], goal: Layout, config: PlannerConfig, generator: torch.Generator
    ) -> None:
        self.world, self.goal, self.config, self.generator = world, goal, config, generator

    def start(self, observation: Observation) -> None:
        self._next: list[Tensor] = []

    def act(self, observation: Observation) -> Tensor:
        if not self._next:
            plan = self.config.plan
            start = stand_still(self.world.spec, observation.actions, plan.horizon)
            found = PLANNERS.get(plan.planner)(self._costs(observation.state), start, plan, self.generator, None)
            self.world.reset(observation.state)
            self._next = [*found.actions[:, : self.config.execute].unbind(1)]
        return self._next.pop(0)

    def _costs(self, state: Any) -> Evaluate:
        """Centimetres that gripper and objects have to go, added up, mean over the steps of a plan."""
        state = self.world.reseeded(state, OTHERWISE) if self.world.random else state

        def evaluate(candidates: Tensor) -> Tensor:
            count, goal = candidates.shape[1], self.goal.fork(candidates.shape[1])
            self.world.reset(self.world.fork(state, count))
            seen = (self.world.step(action) for action in candidates.flatten(0, 1).unbind(1))
            costs = [goal.distances(one.truth).sum(1) for one in seen]
            return torch.stack(costs).mean(0).unflatten(0, (-1, count))

        return evaluate

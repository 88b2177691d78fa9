"""Plans over a world model from what it saw, does the first actions of the plan, and plans again."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rslwm.actors.base import ACTORS, Actor, Observation
from rslwm.model.world_model import WorldModel
from rslwm.plan.base import Cost, PlanConfig, PlanResult, latent_distance, plan
from rslwm.serialisation import ConfigError


@dataclass(frozen=True)
class PlannerConfig:
    """How a planner acts."""

    plan: PlanConfig = field(default_factory=PlanConfig)
    execute: int = 1
    """Actions of a plan that are done before the next plan is made."""


@ACTORS.register("planner")
@dataclass(eq=False)
class Planner(Actor):
    """Model predictive control: :func:`rslwm.plan.base.plan`, again and again.

    Raises:
        ConfigError: it is to do no action of a plan, or more than there are.
    """

    model: WorldModel
    """Imagines the futures, and encodes what is seen where the environment shows frames only."""
    goals: Tensor
    """(B, G, h, w, C), the wanted latents after the first, second, ... action; the last one from then on."""
    config: PlannerConfig
    generator: torch.Generator
    """For all draws of all plans."""
    given: Tensor | None = None
    """(B, F, A), what the dimensions that aren't ``searched`` do; the last one from then on."""
    searched: tuple[int, ...] | None = None
    """Action dimensions to search; all by default."""
    cost: Cost = latent_distance
    found: PlanResult = field(init=False)
    """The plan that is being followed."""

    def __post_init__(self) -> None:
        self.spec, horizon = self.model.action_spec, self.config.plan.horizon
        if not 0 < self.config.execute <= horizon:
            raise ConfigError(f"execute is {self.config.execute}; choose 1 to plan.horizon ({horizon})")

    def start(self, observation: Observation) -> None:
        shape = observation.actions.shape
        self._latents, self._actions = self.goals[:, :0], observation.actions.new_zeros(shape[0], 0, shape[2])
        self._done, self._left = 0, 0

    def act(self, observation: Observation) -> Tensor:
        """The next action of the plan, or the first of a new one; raises what :func:`rslwm.plan.base.plan` raises."""
        self._see(observation)
        if not self._left:
            self.found, self._left = self._plan(), self.config.execute
        self._done, self._left = self._done + 1, self._left - 1
        return self.found.actions[:, self.config.execute - self._left - 1]

    def following(self) -> Tensor | None:
        return self.found.actions[:, self.config.execute - self._left] if self._left else None

    def _see(self, observation: Observation) -> None:
        """Keep as much of the past as the model looks at."""
        latents = observation.latents
        if latents is None:
            assert observation.frames is not None, "the environment shows neither latents nor frames"
            latents = self.model.encode(observation.frames.to(self.model.device)).float()
        history = self.model.config.dit.max_frames - 1
        self._latents = torch.cat([self._latents, latents], 1)[:, -history:]
        actions = torch.cat([self._actions, observation.actions.to(latents)], 1)
        self._actions = actions[:, actions.shape[1] - self._latents.shape[1] + 1 :]

    def _plan(self) -> PlanResult:
        goals, given = self._ahead(self.goals), None if self.given is None else self._ahead(self.given)
        search = self.config.plan, self.generator, self.searched
        return plan(self.model, self._latents, self._actions, goals, *search, given, self.cost)

    def _ahead(self, wanted: Tensor) -> Tensor:
        """Of (B, G, ...) what belongs to the steps of a plan that is made now."""
        steps = range(self._done, self._done + self.config.plan.horizon)
        return wanted[:, [min(step, wanted.shape[1] - 1) for step in steps]]

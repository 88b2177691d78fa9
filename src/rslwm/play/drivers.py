"""Who drives when nobody holds a key: recorded actions, a policy, a planner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Actor
from rslwm.actors.blind import Recorded
from rslwm.actors.planner import Planner, PlannerConfig
from rslwm.compute import autocast, generator
from rslwm.evals.trials import named
from rslwm.latents.views import to_bytes
from rslwm.model.world_model import WorldModel
from rslwm.plan.base import PlanConfig, latent_distance
from rslwm.play.playground import TRUTH, Playground
from rslwm.serialisation import ConfigError
from rslwm.types import DataError

if TYPE_CHECKING:
    from rslwm.play.session import Session

BEST = 4
"""Candidates of an iteration that are shown."""


@dataclass
class Driver:
    """An actor that looks at one pane, and what it does, all worlds do."""

    actor: Actor
    looks: str
    """The pane's name."""
    steps: int | None = None
    """Actions that it has; None is as many as anybody asks for."""
    left_at: int | None = None
    """Where it left off: whoever went elsewhere meanwhile has it start anew."""
    done: int = 0

    @torch.inference_mode()
    def act(self, session: Session) -> np.ndarray | None:
        """The next action (A,), normalised; None where it has no more. Raises what the actor raises."""
        if self.steps is not None and self.done >= self.steps:
            return None
        fresh = self.left_at != session.here.number
        pane = session.ground.pane(self.looks)
        longest = pane.model.config.dit.max_frames - 1 if pane.model else session.ground.config.context
        seen = session.observation(self.looks, longest if fresh else 1)
        with autocast(session.ground.compute):
            if fresh and not isinstance(self.actor, Recorded):
                self.actor.start(seen)
            action = self.actor.act(seen)
        if failures := getattr(self.actor, "failures", None):
            raise DataError(f"the policy failed: {failures[0]}")
        self.done += 1
        return action[0].float().cpu().numpy()

    def close(self) -> None:
        """Leave the actor's server, if it has one."""
        getattr(self.actor, "close", lambda: None)()


def replay(actions: np.ndarray, looks: str) -> Driver:
    """Actions (F, A), normalised, that are settled already."""
    return Driver(Recorded(torch.from_numpy(actions)[None]), looks, len(actions))


def policy(ground: Playground, name: str, looks: str) -> Driver:
    """One of the playground's policies. Raises ConfigError: it offers none of that name, or no such pane; DataError:
    its actions mean something else."""
    if name not in ground.policies:
        raise ConfigError(f"policy {name!r}: there are {', '.join(ground.policies) or 'none'}")
    actor = named(name, ground.spec)
    if actor.spec is not None and actor.spec != ground.spec:
        ground.spec.require(actor.spec, "these worlds", f"the policy {name}")
        raise ConfigError(
            f"policy {name!r}: its actions have other bounds than those of these worlds (another frame skip)"
        )
    return Driver(actor, ground.pane(looks).name)


# --------------------------------------------------------------------------------------------------- planning


@dataclass(frozen=True)
class Candidates:
    """The best futures of one iteration of a search: their costs (BEST,), and the last frame that each imagines
    (BEST, H, W, 3) uint8."""

    iteration: int
    costs: np.ndarray
    frames: np.ndarray


Watcher = Callable[[Candidates], None]


@dataclass
class Watched:
    """A planner's cost, which is looked at: whatever was imagined for an iteration is told once all of it is known."""

    model: WorldModel
    config: PlanConfig
    watch: Watcher
    _parts: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _iteration: int = 0

    def __call__(self, imagined: Tensor, goals: Tensor) -> Tensor:
        """See :data:`rslwm.plan.base.Cost`."""
        costs = latent_distance(imagined, goals)
        self._parts.append((costs[0], imagined[0, :, -1]))
        if sum(len(part) for part, _ in self._parts) >= self.config.candidates:
            every, ends = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
            least, best = every.topk(min(BEST, len(every)), largest=False)
            frames = to_bytes(self.model.decode(ends[best][None]).float())[0].numpy()
            self.watch(Candidates(self._iteration, least.float().cpu().numpy(), frames))
            self._iteration, self._parts = (self._iteration + 1) % self.config.iterations, []
        return costs


def planner(session: Session, name: str, looks: str, config: PlannerConfig, watch: Watcher) -> Driver:
    """Plans in one pane's world model towards the session's goal, looking at the same pane or at the truth. Raises
    ConfigError: there is no goal, no such world model, or it would look at another one's."""
    pane = session.ground.pane(name)
    if pane.model is None:
        raise ConfigError(f"plan in {name!r}: a plan needs a world model; choose another pane")
    if looks not in (name, TRUTH):
        raise ConfigError(f"a planner in {name} can look at {name} or at {TRUTH}, not at {looks!r}")
    if session.goal is None:
        raise ConfigError("plan: there is no goal yet; make a frame the goal")
    goals = session.goal.latents[name][None, None].to(pane.model.device)
    noise = generator(session.beginning.noise, "a planner who is watched")
    actor = Planner(pane.model, goals, config, noise, cost=Watched(pane.model, config.plan, watch))
    return Driver(actor, session.ground.pane(looks).name)

"""Trials of policies inside a world model, and with parts of it replaced by their true counterparts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.blind import Recorded
from rslwm.compute import ComputeConfig, autocast, device, generator
from rslwm.envs.base import Environment, State, play
from rslwm.envs.imagined import Imagination, Imagined
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.judges.base import Footage
from rslwm.evals.trials import Beginnings, TrialsConfig, begin, seen_before, world_of
from rslwm.latents.views import to_bytes, to_float
from rslwm.model.sampler import SamplingConfig
from rslwm.sim.tasks import Task
from rslwm.types import ActionSpec


@dataclass(frozen=True)
class Imaginations:
    """What B trials showed: frames for judges, ``latents`` (B, T0 + F, h, w, C), and the ``actions`` (B, F, A) that
    were chosen."""

    footage: Footage
    latents: Tensor
    actions: Tensor


@torch.no_grad()
def imagine(
    actor: Actor,
    world: Imagined,
    frames: Tensor,
    past: Tensor,
    words: tuple[str, ...],
    tasks: tuple[Task, ...],
    compute: ComputeConfig,
) -> Imaginations:
    """Let an actor act on what a world model shows it, ``world.ahead`` times, from frames (B, T0, H, W, 3) uint8 on and
    the actions (B, T0-1, A) between them."""
    where = device(compute)
    with autocast(compute):
        latents = world.model.encode(to_float(frames).to(where)).float()
        played = play(actor, world, Imagination(latents, past.to(where), instructions=words), world.ahead)
    assert played.start.frames is not None
    assert played.seen.frames is not None
    assert played.seen.latents is not None
    seen = torch.cat([played.start.frames, played.seen.frames], 1)
    shown = torch.cat([latents, played.seen.latents], 1).float().cpu()
    return Imaginations(Footage(words, to_bytes(seen).numpy(), shown, tasks), shown, played.seen.actions.float().cpu())


@dataclass(frozen=True)
class Stage:
    """Where trials of one space take place."""

    evaluation: Evaluation
    beginnings: Beginnings
    settings: TrialsConfig
    sampling: SamplingConfig

    def imagine(self, actor: Actor, kind: int, trials: slice = slice(None)) -> Imaginations:
        """Let a policy act on what the world model shows it. All policies meet the same noise."""
        e, b = self.evaluation, self.beginnings
        noise = generator(e.seed, f"policies {self.settings.families[kind]}")
        world = Imagined(e.world_model, self.sampling, noise, ahead=self.settings.actions, decode=True)
        words, tasks = b.instructions[kind][trials], b.tasks[kind][trials]
        return imagine(actor, world, b.frames[kind, trials], b.past[kind, trials], words, tasks, e.compute)

    def replayed(self, actions: Tensor, kind: int) -> Footage:
        """What the world model makes of actions (B, F, A) that were chosen in truth."""
        return self.imagine(Recorded(actions), kind, slice(len(actions))).footage

    def truly(self, actor: Actor, kind: int, trials: int, through: bool = False) -> tuple[Tensor, np.ndarray]:
        """Whether tasks were done (B,) at any time in the true world, and its frames (B, F, H, W, 3) uint8. With
        ``through`` the policy, and whoever looks at the frames, sees them through the latent space only."""
        world = world_of(self.evaluation.truth, self.settings)
        seen = seen_before(begin(world, self.settings, self.settings.families[kind], trials))
        if through:
            world = Decoded(world, self.evaluation)
        played = play(actor, world, seen.state, self.settings.actions)
        assert seen.success is not None
        assert played.seen.success is not None
        assert played.seen.frames is not None
        return seen.success[:, -1] | played.seen.success.any(1), to_bytes(played.seen.frames).numpy()

    def watched(self, actions: Tensor, kind: int, number: int) -> np.ndarray:
        """All frames (T0 + F, H, W, 3) uint8 of one trial under actions (F, A), as it truly goes."""
        world = world_of(self.evaluation.truth, self.settings)
        seen = seen_before(begin(world, self.settings, self.settings.families[kind], number + 1))
        played = play(Recorded(actions[None]), world, seen.state[-1:], len(actions))
        assert seen.frames is not None
        assert played.seen.frames is not None
        return to_bytes(torch.cat([seen.frames[-1], played.seen.frames[0]])).numpy()


@dataclass(eq=False)
class Decoded(Environment[State]):
    """The true world, seen through a latent space: every frame is encoded and decoded."""

    world: Environment[State]
    evaluation: Evaluation

    @property
    def spec(self) -> ActionSpec:
        return self.world.spec

    def reset(self, state: State) -> Observation:
        return self._through(self.world.reset(state))

    def step(self, actions: Tensor, following: Tensor | None = None) -> Observation:
        return self._through(self.world.step(actions, following))

    def fork(self, state: State, candidates: int) -> State:
        return self.world.fork(state, candidates)

    def _through(self, seen: Observation) -> Observation:
        assert seen.frames is not None
        return replace(seen, frames=through(self.evaluation, seen.frames))


def through(evaluation: Evaluation, frames: Tensor) -> Tensor:
    """Frames (B, T, H, W, 3) in [0, 1], encoded and decoded."""
    return evaluation.decode(evaluation.encode(frames))


def footage_of(films: Sequence[Footage]) -> Footage:
    """Several as one."""
    parts = [film.frames for film in films if film.frames is not None]
    words = tuple(word for film in films for word in film.instructions)
    return Footage(words, np.concatenate(parts), tasks=tuple(task for film in films for task in film.tasks))

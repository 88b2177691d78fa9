"""Trials of policies inside a world model, and with parts of it replaced by their true counterparts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.blind import Recorded
from rslwm.compute import autocast, device, generator
from rslwm.envs.base import Environment, State, play
from rslwm.envs.imagined import Imagination, Imagined
from rslwm.evals.evaluation import Evaluation
from rslwm.evals.judges.base import Footage
from rslwm.evals.trials import Beginnings, TrialsConfig, begin, seen_before, world_of
from rslwm.latents.views import to_float
from rslwm.model.sampler import SamplingConfig
from rslwm.types import ActionSpec


@dataclass(frozen=True)
class Imaginations:
    """What B trials showed: frames for judges, ``latents`` (B, T0 + F, h, w, C), and the ``actions`` (B, F, A) that
    were chosen."""

    footage: Footage
    latents: Tensor
    actions: Tensor


@dataclass(frozen=True)
class Stage:
    """Where trials of one space take place."""

    evaluation: Evaluation
    beginnings: Beginnings
    settings: TrialsConfig
    sampling: SamplingConfig

    def imagine(self, actor: Actor, kind: int, trials: slice = slice(None)) -> Imaginations:
        """Let a policy act on what the world model shows it. All policies meet the same noise."""
        e, b, steps = self.evaluation, self.beginnings, self.settings.actions
        where, family = device(e.compute), self.settings.families[kind]
        noise = generator(e.seed, f"policies {family}")
        model = e.world_model.for_inference(e.compute)
        with torch.no_grad(), autocast(e.compute):
            latents = model.encode(to_float(b.frames[kind, trials]).to(where)).float()
            words = b.instructions[kind][trials]
            start = Imagination(latents, b.past[kind, trials].to(where), instructions=words)
            world = Imagined(model, self.sampling, noise, ahead=steps, decode=True)
            played = play(actor, world, start, steps)
        assert played.start.frames is not None
        assert played.seen.frames is not None
        assert played.seen.latents is not None
        frames = torch.cat([played.start.frames, played.seen.frames], 1)
        shown = torch.cat([latents, played.seen.latents], 1).float().cpu()
        footage = Footage(words, as_bytes(frames), shown, b.tasks[kind][trials])
        return Imaginations(footage, shown, played.seen.actions.float().cpu())

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
        return seen.success[:, -1] | played.seen.success.any(1), as_bytes(played.seen.frames)


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


def as_bytes(frames: Tensor) -> np.ndarray:
    """[0, 1] to uint8."""
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def footage_of(films: Sequence[Footage]) -> Footage:
    """Several as one."""
    parts = [film.frames for film in films if film.frames is not None]
    words = tuple(word for film in films for word in film.instructions)
    return Footage(words, np.concatenate(parts), tasks=tuple(task for film in films for task in film.tasks))

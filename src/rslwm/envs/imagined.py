"""A world model as an environment: what it imagines is what happens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rslwm.actors.base import Observation
from rslwm.actors.blind import Recorded
from rslwm.envs.base import Environment, play
from rslwm.model.sampler import RolloutState, SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.types import ActionSpec


@dataclass(frozen=True)
class Imagination:
    """Frames and how they go on; without a ``rollout`` they are the real ones that one starts from."""

    latents: Tensor
    """(B, T, h, w, C)"""
    actions: Tensor
    """Between the frames, normalised (B, T-1, A)"""
    rollout: RolloutState | None = None
    instructions: tuple[str, ...] = ()
    """What is to be done, of every place, where somebody says."""

    def rows(self, chosen: Tensor) -> Imagination:
        """The chosen places (N,), in memory of their own."""
        rollout = self.rollout and self.rollout.rows(chosen)
        instructions = tuple(self.instructions[row] for row in chosen.tolist()) if self.instructions else ()
        return Imagination(self.latents[chosen], self.actions[chosen], rollout, instructions)


@dataclass(eq=False)
class Imagined(Environment[Imagination]):
    """Every place is a future that the world model samples frame by frame.

    Noise isn't part of a state: from the same state come other futures, unless the generator is the same, too.
    """

    model: WorldModel
    sampling: SamplingConfig
    generator: torch.Generator
    ahead: int = 1
    """Frames whose noise is drawn at once. With as many as are played the latents are those of
    :meth:`WorldModel.rollout` to the last bit."""
    decode: bool = False
    """Show frames, too, for an actor that looks at these."""

    @property
    def spec(self) -> ActionSpec:
        return self.model.action_spec

    def reset(self, state: Imagination) -> Observation:
        self.go(state)
        return self._at(self._rollout, state.latents, state.actions)

    def go(self, state: Imagination) -> None:
        rollout = state.rollout or self.model.start(state.latents, state.actions, self.sampling.full_window)
        self._rollout, self._latent, self._instructions = rollout, state.latents.shape[2:], state.instructions
        self._noise: list[Tensor] = []

    def after(self, seen: Observation) -> Imagination:
        """Where one stands who has seen this, whose frames (B, T, H, W, 3) are encoded as far back as the model looks:
        ``begin`` of :class:`rslwm.actors.best_of.BestOf`."""
        assert seen.frames is not None, "a world model goes on from frames, and none were seen"
        frames = seen.frames[:, 1 - self.model.config.dit.max_frames :]
        latents = self.model.encode(frames.to(self.model.device).float()).float()
        actions = seen.actions[:, seen.actions.shape[1] - latents.shape[1] + 1 :].to(latents)
        return Imagination(latents, actions, instructions=seen.instructions)

    def step(self, actions: Tensor, following: Tensor | None = None) -> Observation:
        noise = self._drawn(len(actions)).to(actions.device)
        rollout, frame = self.model.step(self._rollout, actions, self.sampling, noise, following)
        return self._at(rollout, frame[:, None], actions[:, None])

    def _drawn(self, places: int) -> Tensor:
        """The noise (B, h, w, C) of the next frame."""
        if not self._noise:
            shape = (places, self.ahead, *self._latent)
            drawn = torch.randn(shape, generator=self.generator, device=self.generator.device)
            self._noise = [*drawn.unbind(1)]
        return self._noise.pop(0)

    def _at(self, rollout: RolloutState, latents: Tensor, actions: Tensor) -> Observation:
        self._rollout, self._latent = rollout, latents.shape[2:]
        frames = self.model.decode(latents).float() if self.decode else None
        past = actions[:, 1 + actions.shape[1] - latents.shape[1] :]
        state = Imagination(latents, past, rollout, self._instructions)
        return Observation(actions, latents, frames, instructions=self._instructions, state=state)

    def fork(self, state: Imagination, candidates: int) -> Imagination:
        """The context isn't copied."""
        assert state.rollout is not None
        latents, actions = (x.repeat_interleave(candidates, 0) for x in (state.latents, state.actions))
        instructions = tuple(words for words in state.instructions for _ in range(candidates))
        return Imagination(latents, actions, state.rollout.fork(candidates), instructions)


def imagine(
    model: WorldModel, context: Tensor, actions: Tensor, sampling: SamplingConfig, generator: torch.Generator
) -> Tensor:
    """The future (B, F, h, w, C) of real frames (B, T, h, w, C) under actions (B, T-1+F, A), the first T-1 of which lie
    between the frames: the numbers of :meth:`WorldModel.rollout`."""
    past, future = actions[:, : context.shape[1] - 1], actions[:, context.shape[1] - 1 :]
    steps = future.shape[1]
    world = Imagined(model, sampling, generator, ahead=steps)
    latents = play(Recorded(future), world, Imagination(context, past), steps).seen.latents
    assert latents is not None
    return latents

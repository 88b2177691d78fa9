"""Rollouts: one frame at a time, Euler steps from noise to data, over a sliding window of context frames.

Attention over time is causal and the context's noise level is fixed, so the context's keys and values are computed once
a frame and not at every denoising step. Once the window slides, the frames left in it no longer see those that dropped
out, and the whole window is computed anew: the numbers equal those of a full recomputation, always.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from rslwm.model.dit import Cache, DiT
from rslwm.model.flow import shift


@dataclass(frozen=True)
class RolloutState:
    """Where a rollout stands: the last frames, the actions that condition them, and their cached keys and values.

    ``candidates`` K > 1 means that every context is shared by K futures; the next step then takes (B K) actions, all
    candidates of the first context first, and nothing is copied until their frames differ.
    """

    latents: Tensor
    """(B, T, h, w, C), T < max_frames"""
    actions: Tensor
    """(B, T, A); ``actions[:, t]`` conditions frame t"""
    cache: Cache | None = None
    """Of the leading frames; the next step computes what is missing."""
    candidates: int = 1

    @property
    def batch(self) -> int:
        """Rows that the next step takes: contexts times candidates."""
        return self.latents.shape[0] * self.candidates

    def fork(self, candidates: int) -> RolloutState:
        """K futures for every row, without copying the context; row (b, k) of the next step is b * K + k."""
        return replace(self, candidates=self.candidates * candidates)


@dataclass(frozen=True)
class Sampler:
    """Samples from a transformer; actions are those that condition a frame, in the transformer's own alignment.

    Args:
        gamma: shift of the Euler grid linspace(1, 0, steps + 1).
        context_level: noise level that context frames are declared to have.
        blank_first: give zeros for the action of the window's first frame, as a model trained on clips has seen it.
    """

    dit: DiT
    gamma: float = 1.0
    context_level: float = 0.0
    blank_first: bool = False

    def start(self, context: Tensor, actions: Tensor) -> RolloutState:
        """A state after the frames (B, T, h, w, C) with their conditioning actions (B, T, A), its cache filled."""
        return self.fill(self._window(context, actions))

    def fill(self, state: RolloutState) -> RolloutState:
        """The state with the keys and values of all its frames; do this before forking a state more than once."""
        done = state.cache.frames if state.cache else 0
        if done == state.latents.shape[1]:
            return state
        x, actions = state.latents[:, done:], state.actions[:, done:]
        levels = x.new_full(x.shape[:2], self.context_level)
        _, new = self.dit.extend(x, levels, actions, state.cache)
        return replace(state, cache=state.cache.append(new) if state.cache else new)

    def step(self, state: RolloutState, action: Tensor, noise: Tensor, euler_steps: int) -> tuple[RolloutState, Tensor]:
        """Sample the next frame.

        Args:
            action: (B, A), conditions the new frame; B is ``state.batch``.
            noise: (B, h, w, C), where the frame starts from.

        Returns:
            the state after it, and the frame (B, h, w, C).

        Raises:
            ValueError: another number of actions or noises than the state has rows, or no Euler step.
        """
        if euler_steps < 1:
            raise ValueError(f"euler_steps is {euler_steps}; a frame needs at least 1")
        if len(action) != state.batch or len(noise) != state.batch:
            raise ValueError(
                f"{len(action)} actions and {len(noise)} noises for {len(state.latents)} contexts "
                f"of {state.candidates} candidates each"
            )
        state = self.fill(state)
        grid = shift(torch.linspace(1, 0, euler_steps + 1, dtype=torch.float64), self.gamma).tolist()
        x, action = noise[:, None].float(), action[:, None].float()
        for level, following in pairwise(grid):
            velocity, _ = self.dit.extend(x, x.new_full(x.shape[:2], level), action, state.cache)
            x = x + (following - level) * velocity.float()
        return self._append(state, x, action), x[:, 0]

    def rollout(self, state: RolloutState, actions: Tensor, noise: Tensor, euler_steps: int) -> Tensor:
        """F frames (B, F, h, w, C) from actions (B, F, A) and noise (B, F, h, w, C)."""
        frames = []
        for t in range(actions.shape[1]):
            state, frame = self.step(state, actions[:, t], noise[:, t], euler_steps)
            frames.append(frame)
        return torch.stack(frames, 1)

    def _append(self, state: RolloutState, x: Tensor, action: Tensor) -> RolloutState:
        latents, actions = (y.repeat_interleave(state.candidates, 0) for y in (state.latents, state.actions))
        appended = self._window(torch.cat([latents, x], 1), torch.cat([actions, action], 1))
        slid = appended.latents.shape[1] == state.latents.shape[1]
        return appended if slid else replace(appended, cache=state.cache)

    def _window(self, latents: Tensor, actions: Tensor) -> RolloutState:
        frames = self.dit.config.max_frames - 1
        latents, actions = latents[:, -frames:].float(), actions[:, -frames:].float()
        if self.blank_first:
            actions = torch.cat([torch.zeros_like(actions[:, :1]), actions[:, 1:]], 1)
        return RolloutState(latents, actions)

"""Rollouts: one frame at a time, a few steps from noise to data, over a sliding window of context frames.

Attention over time is causal and the context's noise level is fixed, so the context's keys and values are computed once
a frame and not at every denoising step; the first step of a frame does that for the frame before it on the way.

Once the window slides, the frames left in it no longer see those that dropped out. By default they keep what they
computed when they did; with ``full_window`` the whole window is computed anew: the numbers of a full recomputation,
always.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from rslwm.model.cache import Cache
from rslwm.model.ddpm import VPrediction
from rslwm.model.dit import Conditions, DiT
from rslwm.model.flow import FlowMatching
from rslwm.serialisation import ConfigError


@dataclass(frozen=True)
class SamplingConfig:
    """How a frame is sampled."""

    steps: int = 10
    """Denoising steps of a frame."""
    method: Literal["euler", "heun"] = "euler"
    """Euler, or Heun's second-order steps (two evaluations each but the last). A ddpm model takes DDIM steps."""
    guidance: float = 1.0
    """Classifier-free guidance on the action: 1 is off, above 1 exaggerates its effect. Needs a model trained with
    ``action_dropout``."""
    full_window: bool = False
    """Once the window slides, recompute all of it, as the published sampler does, instead of keeping what the frames
    left in it computed when they still saw those that dropped out."""


Objective = FlowMatching | VPrediction

CONDITIONED_ROWS = 64
"""Rows whose conditions are computed in one product. The weights are many and the rows few, so a rollout computes those
of all its denoising steps at once; a planner's thousands of rows would only fill the memory."""


@dataclass(frozen=True)
class RolloutState:
    """Where a rollout stands: cached keys and values of the context, and the frames that they don't cover yet.

    ``candidates`` K > 1 means that every context is shared by K futures; the next step then takes (B K) actions, all
    candidates of the first context first, and the context is never copied.
    """

    latents: Tensor
    """(B, P, h, w, C), the last frames, those that the cache doesn't cover"""
    actions: Tensor
    """(B, P, A); ``actions[:, t]`` conditions frame t"""
    cache: Cache | None = None
    candidates: int = 1
    window: tuple[Tensor, Tensor] | None = None
    """All frames (B, T, h, w, C) that are still seen and their actions (B, T, A), where ``full_window`` needs them."""

    @property
    def batch(self) -> int:
        """Rows that the next step takes: contexts times candidates."""
        return self.latents.shape[0] * self.candidates

    @property
    def frames(self) -> int:
        """Frames that the next one sees."""
        return self.latents.shape[1] + (self.cache.frames if self.cache else 0)

    def fork(self, candidates: int) -> RolloutState:
        """K futures for every row, without copying the context; row (b, k) of the next step is b * K + k."""
        return replace(self, candidates=self.candidates * candidates)

    def acting(self, action: Tensor) -> RolloutState:
        """The state with another action (B, A) of its last frame; of a single candidate."""
        last = action[:, None].float()
        window = self.window and (self.window[0], torch.cat([self.window[1][:, :-1], last], 1))
        return replace(self, actions=torch.cat([self.actions[:, :-1], last], 1), window=window)


@dataclass(frozen=True)
class Sampler:
    """Samples from a transformer; actions are those that condition a frame, in the transformer's own alignment.

    Args:
        null_action: (A,), what guidance compares with; None for a model that knows none.
        blank_first: where the whole window is recomputed, give zeros for the action of its first frame, as a model
            trained on clips has seen it.
    """

    dit: DiT
    objective: Objective
    null_action: Tensor | None = None
    blank_first: bool = False

    def start(
        self, context: Tensor, actions: Tensor, full_window: bool = False, open_end: bool = False
    ) -> RolloutState:
        """A state after the frames (B, T, h, w, C) with their conditioning actions (B, T, A), its cache filled.

        With ``open_end`` the last frame stays out of the cache, since its action is yet to come.
        """
        latents, actions = self._window(context, actions)
        state = RolloutState(latents, actions, window=(latents, actions) if full_window else None)
        return self.fill(state, but=int(open_end))

    def fill(self, state: RolloutState, but: int = 0) -> RolloutState:
        """The state with the keys and values of all its frames but the last few; before forking, so they are shared."""
        count = state.latents.shape[1] - but
        if count <= 0:
            return state
        latents, actions = state.latents[:, :count], state.actions[:, :count]
        levels = actions.new_full(actions.shape[:2], self.objective.context_level)
        with self.dit.own_precision():
            conditions = self.dit.conditions(levels, actions)
            _, new = self.dit.extend(self.objective.context(latents), conditions, state.cache)
        cache = state.cache.append(new) if state.cache else new
        return replace(state, cache=cache, latents=state.latents[:, count:], actions=state.actions[:, count:])

    def step(
        self,
        state: RolloutState,
        action: Tensor,
        noise: Tensor,
        sampling: SamplingConfig,
        last_action: Tensor | None = None,
    ) -> tuple[RolloutState, Tensor]:
        """Sample the next frame.

        Args:
            action: (B, A), conditions the new frame; B is ``state.batch``.
            noise: (B, h, w, C), where the frame starts from.
            last_action: (B, A), conditions the frame before it instead of the action in the state.

        Returns:
            the state after it, and the frame (B, h, w, C).

        Raises:
            ConfigError: guidance of a model without a null action, Heun steps of a diffusion model, or no step at all.
            ValueError: another number of actions or noises than the state has rows.
        """
        self._check(state, action, noise, sampling)
        if state.candidates > 1 or sampling.guidance != 1:
            state = self._spread(self.fill(state, but=int(last_action is not None)))
        if last_action is not None:
            state = state.acting(last_action)
        levels = self.objective.levels(sampling.steps)
        branches = [_Branch(self, state, action, levels)]
        if sampling.guidance != 1:
            branches.append(self._unconditional(state, last_action is not None, levels))
        x = noise[:, None].float()
        for i, (level, following) in enumerate(pairwise(levels)):
            output = _guided(branches, sampling.guidance, x, i)
            moved = self.objective.move(x, output, level, following)
            if sampling.method == "heun" and i + 1 < sampling.steps:
                output = (output + _guided(branches, sampling.guidance, moved, i + 1)) / 2
                moved = self.objective.move(x, output, level, following)
            x = moved
        return self._append(replace(state, cache=branches[0].past), x, action[:, None].float()), x[:, 0]

    def _check(self, state: RolloutState, action: Tensor, noise: Tensor, sampling: SamplingConfig) -> None:
        if sampling.steps < 1:
            raise ConfigError(f"sampling.steps is {sampling.steps}; a frame needs at least 1")
        if sampling.method == "heun" and isinstance(self.objective, VPrediction):
            raise ConfigError("sampling.method is 'heun', but a ddpm model takes DDIM steps; use 'euler'")
        if sampling.guidance != 1 and self.null_action is None:
            raise ConfigError(
                f"sampling.guidance is {sampling.guidance}, but the model was trained without action_dropout; use 1"
            )
        if len(action) != state.batch or len(noise) != state.batch:
            raise ValueError(
                f"{len(action)} actions and {len(noise)} noises for {len(state.latents)} contexts "
                f"of {state.candidates} candidates each"
            )

    def _spread(self, state: RolloutState) -> RolloutState:
        """The candidates as rows of their own; the cache stays shared."""
        K = state.candidates
        latents, actions = state.latents.repeat_interleave(K, 0), state.actions.repeat_interleave(K, 0)
        window = state.window and (state.window[0].repeat_interleave(K, 0), state.window[1].repeat_interleave(K, 0))
        return RolloutState(latents, actions, state.cache, window=window)

    def _unconditional(self, state: RolloutState, open_end: bool, levels: list[float]) -> _Branch:
        """What would come without knowing the action: that of the new frame, or the one taken from the last."""
        assert self.null_action is not None
        null = self.null_action.to(state.actions).expand(len(state.actions), -1)
        return _Branch(self, state.acting(null) if open_end else state, null, levels)

    def _append(self, state: RolloutState, x: Tensor, action: Tensor) -> RolloutState:
        most = self.dit.config.max_frames - 1
        if state.window is None:
            cache = state.cache and state.cache.tail(most - 1)
            return RolloutState(x, action, cache if cache and cache.frames else None)
        latents, actions = (torch.cat(pair, 1) for pair in zip(state.window, (x, action), strict=True))
        if latents.shape[1] <= most:
            return RolloutState(x, action, state.cache, window=(latents, actions))
        window = self._window(latents, actions)
        return RolloutState(*window, window=window)

    def _window(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        frames = self.dit.config.max_frames - 1
        latents, actions = latents[:, -frames:].float(), actions[:, -frames:].float()
        if self.blank_first:
            actions = torch.cat([torch.zeros_like(actions[:, :1]), actions[:, 1:]], 1)
        return latents, actions


class _Branch:
    """Evaluations of the transformer on one new frame under one action; the first fills the cache on the way."""

    def __init__(self, sampler: Sampler, state: RolloutState, action: Tensor, levels: list[float]) -> None:
        self.dit, self.objective, self.past = sampler.dit, sampler.objective, state.cache
        self.pending, self.context_actions = state.latents, state.actions
        self.action, self.levels = action[:, None].float(), levels[:-1]
        self.conditions: dict[int, Conditions] = {}

    def evaluate(self, x: Tensor, i: int) -> Tensor:
        """Output for the new frame (B, 1, h, w, C) at the noise level of step i; i never falls."""
        context = self.pending.shape[1]
        frames = torch.cat([self.objective.context(self.pending), x], 1)
        with self.dit.own_precision():
            if i not in self.conditions:
                self.conditions = self._conditions_from(i)
            output, new = self.dit.extend(frames, self.conditions[i], self.past, context)
        if context:
            self.past = self.past.append(new) if self.past else new
            self.pending = self.pending[:, :0]
        return output[:, context:].float()

    def _conditions_from(self, start: int) -> dict[int, Conditions]:
        """Of step ``start``, with the pending frames before it, and of as many further steps as go at once."""
        levels = self.levels[start : start + max(1, CONDITIONED_ROWS // len(self.action))]
        context = self.pending.shape[1]
        rows = self.action.new_tensor([self.objective.context_level] * context + levels).expand(len(self.action), -1)
        actions = torch.cat([self.context_actions[:, :context], self.action.expand(-1, len(levels), -1)], 1)
        of = self.dit.conditions(rows, actions)
        steps = {start + i: of[context + i : context + i + 1] for i in range(len(levels))}
        return steps | {start: of[: context + 1]}


def _guided(branches: list[_Branch], guidance: float, x: Tensor, i: int) -> Tensor:
    """Classifier-free guidance (Ho and Salimans, arXiv 2207.12598)."""
    output = branches[0].evaluate(x, i)
    if len(branches) == 1:
        return output
    null = branches[1].evaluate(x, i)
    return null + guidance * (output - null)

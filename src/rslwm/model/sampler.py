"""Rollouts: one frame at a time, a few steps from noise to data, over a sliding window of context frames.

Attention over time is causal and the context's noise level is fixed, so the context's keys and values are computed once
a frame and not at every denoising step; the first step of a frame does that for the frame before it on the way. Once
the window slides, the frames left in it keep what they computed when they still saw those that dropped out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.model.cache import EMPTY, Cache
from rslwm.model.dit import Conditions, DiT
from rslwm.model.flow import FlowMatching
from rslwm.model.published.ddpm import VPrediction
from rslwm.serialisation import ConfigError


@dataclass(frozen=True)
class SamplingConfig:
    """How a world model makes a frame out of noise, in a few steps of the transformer."""

    steps: int = 10
    """Denoising steps of a frame. More steps cost proportionally more time and follow the learned path more closely."""
    method: Literal["euler", "heun"] = "euler"
    """How a step is taken: by Euler's rule, or by Heun's, which evaluates the transformer twice in each step but the
    last and errs less. A model with the ddpm objective takes DDIM steps and needs euler here."""
    guidance: float = 1.0
    """Classifier-free guidance on the action. 1 switches it off; above 1 the action's effect is exaggerated, and every
    step costs twice as much. It needs a model that was trained with ``action_dropout``."""
    full_window: bool = False
    """Recompute all context frames once the window slides, as the paper's sampler does. Otherwise the frames left in
    the window keep what they computed when they still saw those that dropped out, which is faster."""


CONDITIONED_ROWS = 64
"""Rows whose conditions are computed in one product. The weights are many and the rows few, so a rollout computes those
of all its denoising steps at once; a planner's thousands of rows would only fill the memory."""

Objective = FlowMatching | VPrediction
"""What a transformer learns to predict, and how a frame is sampled from what it predicts."""


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
    cache: Cache = EMPTY
    candidates: int = 1

    @property
    def batch(self) -> int:
        """Rows that the next step takes: contexts times candidates."""
        return self.latents.shape[0] * self.candidates

    def fork(self, candidates: int) -> Self:
        """K futures for every row, without copying the context; row (b, k) of the next step is b * K + k."""
        return replace(self, candidates=self.candidates * candidates)

    def spread(self) -> Self:
        """The candidates as rows of their own; the cache stays shared."""
        latents, actions = (x.repeat_interleave(self.candidates, 0) for x in (self.latents, self.actions))
        return replace(self, latents=latents, actions=actions, candidates=1)

    def rows(self, chosen: Tensor) -> Self:
        """Those of its rows that are chosen (N,), in memory of their own."""
        every = self.spread()
        cache = self.cache.rows(chosen, self.batch)
        return replace(every, latents=every.latents[chosen], actions=every.actions[chosen], cache=cache)

    def then(self, frame: Tensor, action: Tensor, sampler: Sampler) -> Self:
        """The state after one more frame (B, 1, h, w, C) and its action (B, 1, A); the cache covers all others."""
        cache = self.cache.tail(sampler.dit.config.max_frames - 2)
        return replace(self, latents=frame, actions=action, cache=cache if cache.frames else EMPTY)


@dataclass(frozen=True)
class Sampler:
    """Samples from a transformer that conditions a frame on the action which led to it.

    The first frame of a window gets zeros, as in training: nobody knows what led there.
    """

    dit: DiT
    objective: Objective
    null_action: Tensor | None = None
    """(A,), what guidance compares with; None for a model that knows none"""
    waiting: ClassVar[int] = 0
    """Last frames of a state that can't be cached, since the action that conditions them is yet to come."""

    @staticmethod
    def align(actions: Tensor) -> Tensor:
        """Actions between frames (B, T-1, A) -> the one that conditions each frame (B, T, A), zeros where none does."""
        return F.pad(actions, (0, 0, 1, 0))

    def window(self, latents: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the frames (B, T, h, w, C) that a new one sees, and the actions (B, T, A) that condition them."""
        latents, actions = (x[:, 1 - self.dit.config.max_frames :].float() for x in (latents, actions))
        return latents, actions if self.waiting else self.align(actions[:, 1:])

    def start(self, context: Tensor, actions: Tensor) -> RolloutState:
        """A state after frames (B, T, h, w, C) with the actions (B, T-1, A) between them, its cache filled."""
        return self.fill(RolloutState(*self.window(context, self.align(actions))))

    def fill(self, state: RolloutState) -> RolloutState:
        """The state with keys and values of all its frames but the waiting; before forking, so that they are shared."""
        count = state.latents.shape[1] - self.waiting
        if count <= 0:
            return state
        latents, actions = state.latents[:, :count], state.actions[:, :count]
        levels = actions.new_full(actions.shape[:2], self.objective.context_level)
        with self.dit.own_precision():
            conditions = self.dit.conditions(levels, actions)
            _, new = self.dit.extend(self.objective.context(latents), conditions, state.cache)
        rest = state.latents[:, count:], state.actions[:, count:]
        return replace(state, cache=state.cache.append(new), latents=rest[0], actions=rest[1])

    def step(
        self,
        state: RolloutState,
        action: Tensor,
        noise: Tensor,
        sampling: SamplingConfig,
        following: Tensor | None = None,
    ) -> tuple[RolloutState, Tensor]:
        """Sample the next frame (B, h, w, C) from noise of its shape, after an action (B, A); B is ``state.batch``.

        Only a sampler of outgoing alignment looks at the ``following`` action (B, A), taken from the new frame.

        Raises:
            ConfigError: guidance of a model without a null action, Heun steps of a diffusion model, or no step at all.
            ValueError: another number of actions or noises than the state has rows.
        """
        self._check(state, action, noise, sampling)
        if state.candidates > 1 or sampling.guidance != 1:
            state = self.fill(state).spread()
        state, action = self.informed(state, action), self.own(action, following)
        levels = self.objective.levels(sampling.steps)
        branches = [_Branch(self, state, action, levels)]
        if sampling.guidance != 1 and self.null_action is not None:
            null = self.null_action.to(action).expand(len(action), -1)
            branches.append(_Branch(self, self.informed(state, null), null, levels))

        def guided(x: Tensor, i: int) -> Tensor:
            """Velocity at step i, with classifier-free guidance (Ho and Salimans, arXiv 2207.12598)."""
            output, *nulls = (branch.evaluate(x, i) for branch in branches)
            output = nulls[0] + sampling.guidance * (output - nulls[0]) if nulls else output
            return self.objective.velocity(x, output, levels[i])

        x = noise[:, None].float()
        for i, (level, following_level) in enumerate(pairwise(levels)):
            velocity = guided(x, i)
            moved = self.objective.move(x, velocity, level, following_level)
            if sampling.method == "heun" and i + 1 < sampling.steps:
                velocity = (velocity + guided(moved, i + 1)) / 2
                moved = self.objective.move(x, velocity, level, following_level)
            x = moved
        return replace(state, cache=branches[0].past).then(x, action[:, None].float(), self), x[:, 0]

    def informed(self, state: RolloutState, action: Tensor) -> RolloutState:
        """The state that knows which action (B, A) leads to the new frame; of a single candidate."""
        return state

    def own(self, action: Tensor, following: Tensor | None) -> Tensor:
        """The one that conditions the new frame."""
        return action

    def _check(self, state: RolloutState, action: Tensor, noise: Tensor, sampling: SamplingConfig) -> None:
        if sampling.steps < 1:
            raise ConfigError(f"sampling.steps is {sampling.steps}; a frame needs at least 1")
        if sampling.method == "heun" and not isinstance(self.objective, FlowMatching):
            raise ConfigError("sampling.method is 'heun', but a ddpm model takes DDIM steps; use 'euler'")
        if sampling.guidance != 1 and self.null_action is None:
            asked = f"sampling.guidance is {sampling.guidance}"
            raise ConfigError(f"{asked}, but the model was trained without action_dropout; use 1")
        if len(action) != state.batch or len(noise) != state.batch:
            rows = f"{len(state.latents)} contexts of {state.candidates} candidates each"
            raise ValueError(f"{len(action)} actions and {len(noise)} noises for {rows}")


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
            self.past = self.past.append(new)
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


# ------------------------------------------------------------------------------ what the paper's sampler does otherwise


@dataclass(frozen=True, kw_only=True)
class FullWindow(RolloutState):
    """A state whose window is computed anew when it slides: the numbers of a full recomputation, always."""

    window: tuple[Tensor, Tensor]
    """All frames (B, T, h, w, C) that are still seen, and their actions (B, T, A)."""

    @classmethod
    def of(cls, state: RolloutState, sampler: Sampler, context: Tensor, actions: Tensor) -> Self:
        """A state that the sampler started after this context."""
        return cls(**vars(state), window=sampler.window(context, sampler.align(actions)))

    def spread(self) -> Self:
        latents, actions = (x.repeat_interleave(self.candidates, 0) for x in self.window)
        return replace(super().spread(), window=(latents, actions))

    def rows(self, chosen: Tensor) -> Self:
        latents, actions = self.spread().window
        return replace(super().rows(chosen), window=(latents[chosen], actions[chosen]))

    def then(self, frame: Tensor, action: Tensor, sampler: Sampler) -> Self:
        latents, actions = (torch.cat(pair, 1) for pair in zip(self.window, (frame, action), strict=True))
        if latents.shape[1] < sampler.dit.config.max_frames:
            return replace(self, latents=frame, actions=action, window=(latents, actions))
        latents, actions = sampler.window(latents, actions)
        return replace(self, latents=latents, actions=actions, cache=EMPTY, window=(latents, actions))


class OutgoingSampler(Sampler):
    """For a transformer that conditions a frame on the action taken from it, zeros where that isn't known.

    The last frame of a state then stays out of the cache, since its action is only known with the next step.
    """

    waiting: ClassVar[int] = 1

    @staticmethod
    def align(actions: Tensor) -> Tensor:
        return F.pad(actions, (0, 0, 0, 1))

    def informed(self, state: RolloutState, action: Tensor) -> RolloutState:
        def last(actions: Tensor) -> Tensor:
            return torch.cat([actions[:, :-1], action[:, None].float()], 1)

        if isinstance(state, FullWindow):
            state = replace(state, window=(state.window[0], last(state.window[1])))
        return replace(state, actions=last(state.actions))

    def own(self, action: Tensor, following: Tensor | None) -> Tensor:
        return torch.zeros_like(action) if following is None else following

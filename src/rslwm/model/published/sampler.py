"""What the paper's sampler does otherwise: whole windows, and frames conditioned on the action taken from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.model.cache import EMPTY
from rslwm.model.sampler import RolloutState, Sampler


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

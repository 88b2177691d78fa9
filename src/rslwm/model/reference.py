"""World models that were never trained: what a metric says of them is known before it is measured."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rslwm.latents.floor import RawPixels
from rslwm.latents.space import LatentSpace, PixelPath
from rslwm.model.dit import DiTConfig
from rslwm.model.sampler import RolloutState, SamplingConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.types import ActionSpec


class Reference(WorldModel):
    """A world model in all but its transformer, which is the smallest that there can be and never asked. The state of a
    rollout is its last frame.

    Args:
        max_frames: that a trained world model sees, so that the windows of all are the same.
    """

    def __init__(self, space: LatentSpace, action_spec: ActionSpec, max_frames: int) -> None:
        dit = DiTConfig(width=8, depth=1, heads=1, patch=1, max_frames=max_frames)
        super().__init__(space, action_spec, WorldModelConfig(dit=dit), torch.Generator().manual_seed(0))

    def start(self, context: Tensor, actions: Tensor, full_window: bool = False) -> RolloutState:
        self._check(context, actions)
        return RolloutState(context[:, -1:].float(), actions[:, -1:])

    def step(
        self,
        state: RolloutState,
        action: Tensor,
        sampling: SamplingConfig,
        noise: Tensor | torch.Generator,
        following: Tensor | None = None,
    ) -> tuple[RolloutState, Tensor]:
        state = state.spread() if state.candidates > 1 else state
        drawn = self._drawn(noise, state.batch, *state.latents.shape[2:])
        frame = self.outcome(state.latents[:, -1], action, drawn)
        return replace(state, latents=frame[:, None]), frame

    def outcome(self, frame: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        """What becomes of a frame (B, h, w, C) under an action (B, A); chance, if there is any, follows from the noise
        (B, h, w, C)."""
        raise NotImplementedError


class CopyLast(Reference):
    """Nothing ever happens."""

    def outcome(self, frame: Tensor, action: Tensor, noise: Tensor) -> Tensor:
        return frame


class Mosaic(PixelPath):
    """Shows raw pixels as they are."""

    def forward(self, latents: Tensor, space: LatentSpace) -> Tensor:
        assert isinstance(space.encoder, RawPixels)
        return space.encoder.show(space.restore(latents))

    def settings(self) -> dict[str, object]:
        return {}

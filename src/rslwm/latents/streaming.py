"""Latents that are too wide to store: made of the stored frames whenever they are read."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from rslwm.compute import ComputeConfig
from rslwm.data.store import Places, TensorStore
from rslwm.latents.store import Encode, encode_episode


class StreamedTensors:
    """What a store of latents would hold, in its precision; equal up to what the frames of a batch do to each other's
    rounding.

    Args:
        encode: (1, T, ...) as the store of frames holds them -> (1, T, h, w, C).
        latent: (h, w, C).
    """

    def __init__(self, encode: Encode, frames: TensorStore, latent: tuple[int, ...], compute: ComputeConfig) -> None:
        self.encode, self.frames, self.latent, self.compute = encode, frames, latent, compute

    def __str__(self) -> str:
        return f"latents of {self.frames}"

    @property
    def keys(self) -> list[str]:
        return self.frames.keys

    @property
    def meta(self) -> dict[str, Any]:
        return self.frames.meta

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an episode's latents, (T, h, w, C), without making them."""
        return self.frames.shape(key)[0], *self.latent

    def __getitem__(self, key: str) -> Tensor:
        return self._encode(self.frames[key])

    def read(self, places: Places) -> Tensor:
        """Latents of these frames, as many of each episode: (N, T, h, w, C)."""
        frames = self.frames.read(places)
        return self._encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def _encode(self, frames: Tensor) -> Tensor:
        with _disable_current_modes():  # who counts the FLOPs of a training reads from a store or from here alike
            return encode_episode(self.encode, frames, self.compute)

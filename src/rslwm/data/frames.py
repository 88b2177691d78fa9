"""Frames of one camera, or of several side by side, decoded and resized once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rslwm.data.clips import windows
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.store import Tensors, TensorStore
from rslwm.types import Progress, silent

BLACK = 16  # a picture without a brighter value is black: neither JPEG nor video coding keeps zeros


def rgb(frames: np.ndarray) -> np.ndarray:
    """(..., H, W, 1 or 3 or 4) -> (..., H, W, 3)."""
    colours = frames[..., :3] if frames.shape[-1] >= 3 else np.repeat(frames[..., :1], 3, axis=-1)
    return np.ascontiguousarray(colours)


def resize(frames: np.ndarray, size: int) -> np.ndarray:
    """(T, H, W, 3) uint8 -> (T, size, size, 3) uint8: the whole picture, area-averaged where it shrinks."""
    if frames.shape[1:3] == (size, size):
        return frames
    method = Image.Resampling.BOX if size <= min(frames.shape[1:3]) else Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), method)) for frame in frames])


class DecodedFrames:
    """What a store of frames would hold, decoded when it is asked for: ``frames[key]`` is (T, H, V W, 3) uint8 with
    H = W = ``image_size``, the views of the comma-separated ``cameras`` side by side. ``meta`` is the store's, too.
    Raises DataError: no such camera, or a damaged video."""

    def __init__(self, dataset: EpisodeDataset, cameras: str, image_size: int) -> None:
        self.dataset, self.views, self.image_size = dataset, dataset.views(cameras), image_size
        self.keys = dataset.ids
        self._numbers = {key: i for i, key in enumerate(self.keys)}
        self._last: tuple[str, Tensor] | None = None

    @cached_property
    def meta(self) -> dict[str, Any]:
        return {"data": self.dataset.fingerprint, "camera": ",".join(self.views), "image_size": self.image_size}

    def __getitem__(self, key: str) -> Tensor:
        if self._last is None or self._last[0] != key:  # frames of one episode are mostly asked for one by one
            i = self._numbers[key]
            views = [resize(self.dataset.frames(i, view), self.image_size) for view in self.views]
            self._last = key, torch.from_numpy(np.concatenate(views, axis=2))
        return self._last[1]


def evenly_spaced(dataset: EpisodeDataset, frames: Tensors, episodes: Sequence[int], count: int) -> Tensor:
    """``count`` frames, evenly over these episodes, (count, H, V W, 3) uint8; all of them if there are fewer."""
    places = windows(dataset.lengths, episodes, 1, 1)
    chosen = places[np.linspace(0, len(places) - 1, min(count, len(places))).astype(int)]
    return torch.stack([frames[dataset.ids[e]][t] for e, t in chosen])


def build_frame_store(
    dataset: EpisodeDataset, cameras: str, image_size: int, root: Path, progress: Progress = silent
) -> TensorStore:
    """A store of :class:`DecodedFrames` under the episodes' ids; resumes where it was killed. Raises DataError: no such
    camera, a damaged video, or ``root`` holds other frames."""
    frames = DecodedFrames(dataset, cameras, image_size)
    items = [(key, partial(frames.__getitem__, key)) for key in frames.keys]
    return TensorStore.write(root, items, frames.meta, progress=progress)

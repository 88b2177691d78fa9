"""Frames of one camera, or of several side by side, decoded and resized once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from rslwm.data.dataset import EpisodeDataset, Progress
from rslwm.data.store import TensorStore

BLACK = 16
"""A picture without a brighter value than this is black: neither JPEG nor video coding keeps zeros."""


def resize(frames: np.ndarray, size: int) -> np.ndarray:
    """(T, H, W, 3) uint8 -> (T, size, size, 3) uint8: the whole picture, area-averaged where it shrinks."""
    if frames.shape[1:3] == (size, size):
        return frames
    smaller = size <= min(frames.shape[1:3])
    method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(frame).resize((size, size), method)) for frame in frames])


def build_frame_store(
    dataset: EpisodeDataset, cameras: str, image_size: int, root: Path, progress: Progress | None = None
) -> TensorStore:
    """A store of (T, H, V W, 3) uint8 under the episodes' ids, H = W = ``image_size``; resumes where it was killed.

    Args:
        cameras: one, or several, comma separated: their views lie side by side in this order.

    Raises:
        DataError: no such camera, a damaged video, or ``root`` holds other frames.
    """
    views = dataset.views(cameras)

    def decode(i: int) -> Callable[[], np.ndarray]:
        return lambda: np.concatenate([resize(dataset.frames(i, view), image_size) for view in views], axis=2)

    def items() -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
        for i, name in enumerate(dataset.ids):
            yield name, decode(i)
            if progress:
                progress(i + 1)

    meta = {"data": dataset.fingerprint, "camera": ",".join(views), "image_size": image_size}
    return TensorStore.write(root, items(), meta)

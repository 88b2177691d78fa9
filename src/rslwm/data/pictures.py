"""Pictures in foreign data: encoded in a tf.Example, or as arrays."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from rslwm.data.frames import BLACK
from rslwm.data.leaves import Leaf
from rslwm.data.tfds import numbers
from rslwm.data.tfrecord import Value
from rslwm.types import DataError


def video(example: dict[str, Value], leaf: Leaf, where: str) -> np.ndarray:
    """(T, H, W, 3) uint8 of a feature's pictures in a tf.Example.

    Raises:
        DataError: there are none, one can't be decoded, or they differ in size.
    """
    if not len(example.get(leaf.key, [])):
        raise DataError(f"{where} has no pictures of {leaf.key!r}, which other episodes have. Remove the episode.")
    if leaf.kind == "numbers":
        return rgb(numbers(example, leaf, where).astype(np.uint8))  # a tf.Example has no smaller integers than int64
    frames = [_decode(data, leaf, where) for data in example[leaf.key]]
    if len(sizes := {frame.shape[:2] for frame in frames}) > 1:
        raise DataError(f"{where}: the pictures of {leaf.key!r} differ in size: {', '.join(map(str, sorted(sizes)))}")
    return np.stack(frames)


def rgb(frames: np.ndarray) -> np.ndarray:
    """(..., H, W, 1 or 3 or 4) -> (..., H, W, 3)."""
    colours = frames[..., :3] if frames.shape[-1] >= 3 else np.repeat(frames[..., :1], 3, axis=-1)
    return np.ascontiguousarray(colours)


def _decode(data: Any, leaf: Leaf, where: object) -> np.ndarray:
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except UnidentifiedImageError:
        what = f"it begins with {bytes(data[:8])!r}" if isinstance(data, bytes) else f"it is the number {data}"
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        what = str(error)
    raise DataError(
        f"{where}: an image of {leaf.key!r} can't be decoded ({what}). Remove the episode or write it again."
    )


def is_black(example: dict[str, Value], leaf: Leaf, where: str) -> bool:
    """Judged by the episode's middle frame. The ``has_image_*`` flags are 0 in public data whose images are there."""
    pictures = example.get(leaf.key, [])
    if not len(pictures):
        return True
    if leaf.kind == "numbers":
        frames = numbers(example, leaf, where)
        return int(frames[len(frames) // 2].max()) < BLACK
    return int(_decode(pictures[len(pictures) // 2], leaf, where).max()) < BLACK

"""Films that a metric shows beside its rows: what a number alone wouldn't let anybody see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from rslwm.tensors import noted, opened, write_tensors
from rslwm.types import DataError

FILMS = "films.safetensors"
Pixels = TypeVar("Pixels", Tensor, np.ndarray)


@dataclass(frozen=True)
class Film:
    """``frames`` (T, H, W, 3) uint8, and a sentence that says what is seen, side by side."""

    caption: str
    frames: Tensor


def side_by_side(*films: Tensor) -> Tensor:
    """Of frames (T, H, W, 3) uint8 of the same moments."""
    return torch.cat(films, 2)


def save(films: Sequence[Film], path: Path) -> None:
    """Write them in order; nothing where there are none."""
    if films:
        tensors = {f"{number:03d}": film.frames for number, film in enumerate(films)}
        write_tensors(tensors, path, {"captions": json.dumps([film.caption for film in films])})


def load(path: Path) -> list[Film]:
    """Inverse of :func:`save`."""
    if not path.is_file():
        return []
    with opened(path) as file:
        captions = noted(file, "captions", path)
        frames = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # the file is no mapping
    if not isinstance(captions, list) or [*frames] != [f"{number:03d}" for number in range(len(captions))]:
        raise DataError(f"{path} holds the films {', '.join(frames)}, and captions for {captions!r:.200}")
    videos = (require_video(video, path, axes=4) for video in frames.values())
    return [Film(str(text), video) for text, video in zip(captions, videos, strict=True)]


def require_video(frames: Pixels, path: Path, axes: int) -> Pixels:
    """Those frames (..., T, H, W, 3) uint8 of a file, of so many axes. Raises DataError: they are something else."""
    if frames.ndim != axes or frames.shape[-1] != 3 or 0 in frames.shape or frames.dtype not in (torch.uint8, np.uint8):
        raise DataError(f"{path} holds {frames.dtype} {tuple(frames.shape)}; frames are uint8 (..., T, H, W, 3)")
    return frames

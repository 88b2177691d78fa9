"""Films that a metric shows beside its rows: what a number alone wouldn't let anybody see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from rslwm.tensors import write_tensors

FILMS = "films.safetensors"


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
    with safe_open(path, "pt") as file:
        captions = json.loads(file.metadata()["captions"])
        return [Film(caption, file.get_tensor(f"{number:03d}")) for number, caption in enumerate(captions)]

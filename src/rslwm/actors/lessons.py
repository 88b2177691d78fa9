"""Lessons as tensors that a policy learns from, recorded once into files of a hundred."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.actors.words import forgotten, numbered
from rslwm.serialisation import content_hash
from rslwm.sim.lessons import Lesson, LessonConfig, lessons
from rslwm.sim.sight import places
from rslwm.sim.tabletop import Tabletop
from rslwm.tensors import noted, opened, read_weights, write_tensors
from rslwm.types import Progress, silent

FILE = 100
"""Lessons in a file."""

_UNKNOWN = 0.03  # of the words, see forgotten
_BLURRED = 0.5  # of the frames
_NOISE = 0.03  # highest standard deviation
_GAIN = 0.05  # how much brighter or darker


class Batch(NamedTuple):
    """Rows of :class:`Lessons`: ``frames`` (B, pictures, 3, H, W) in [0, 1], the present one last."""

    frames: Tensor
    words: Tensor
    actions: Tensor
    facts: Tensor
    places: Tensor


@dataclass(frozen=True)
class Lessons:
    """``frames`` (N, 3, H, W) uint8, ``before`` (N,) the row of the frame before each, ``words`` (N, LENGTH),
    ``actions`` (N, A) normalised, ``facts`` (N, WIDTH), ``places`` (N, 3, 2) as of :func:`rslwm.sim.sight.places`."""

    frames: Tensor
    before: Tensor
    words: Tensor
    actions: Tensor
    facts: Tensor
    places: Tensor

    @classmethod
    def recorded(cls, config: LessonConfig, indices: range, folder: Path, progress: Progress = silent) -> Lessons:
        """These lessons; files of them that ``folder`` holds already aren't recorded again."""
        found: list[dict[str, Tensor]] = []
        for start in range(indices.start // FILE * FILE, indices.stop, FILE):
            path = folder / f"lessons-{content_hash(config)}-{start:06d}.safetensors"
            if not path.exists():
                _write(path, [*lessons(config, range(start, start + FILE))])
            tensors, lengths = read_weights(path), _instructions(path)
            words = numbered([text for text, _ in lengths])
            steps = torch.tensor([length for _, length in lengths])
            number = torch.arange(start, start + FILE).repeat_interleave(steps)
            wanted = (number >= indices.start) & (number < indices.stop)
            first = torch.cat([torch.ones(1, dtype=torch.bool), number[1:] != number[:-1]])
            tensors |= {"words": words.repeat_interleave(steps, 0), "first": first}
            found.append({name: x[wanted] for name, x in tensors.items()})
            progress(min(start + FILE, indices.stop) - indices.start, len(indices), "lessons")
        whole = {name: torch.cat([part[name] for part in found]) for name in found[0]}
        camera = Tabletop(config.image_size).camera(config.camera)
        whole["places"] = torch.from_numpy(places(whole["facts"].numpy(), camera))
        return cls(before=torch.arange(len(whole["first"])) - (~whole.pop("first")).long(), **whole)

    def __len__(self) -> int:
        return len(self.frames)

    def sample(self, count: int, pictures: int, draw: torch.Generator) -> Batch:
        """Rows drawn at random. The frames are blurred and noisy in part: those that a world model makes are."""
        rows = torch.randint(len(self), (count,), generator=draw)
        seen = self.frames[rows[:, None] if pictures == 1 else torch.stack([self.before[rows], rows], 1)]
        words = forgotten(self.words[rows], _UNKNOWN, draw)
        return Batch(_spoilt(seen.float() / 255, draw), words, self.actions[rows], self.facts[rows], self.places[rows])


def _spoilt(frames: Tensor, draw: torch.Generator) -> Tensor:
    """(B, T, 3, H, W) with blur, another brightness and noise, each of its own strength in every row."""
    blur, gain, noise = torch.rand((3, len(frames), 1, 1, 1, 1), generator=draw)
    soft = F.avg_pool2d(frames.flatten(0, 1), 3, 1, 1, count_include_pad=False).view_as(frames)
    frames = frames.lerp(soft, (blur / _BLURRED - 1 / _BLURRED + 1).clamp(min=0))
    frames = frames * (1 + _GAIN * (2 * gain - 1))
    return (frames + _NOISE * noise * torch.randn(frames.shape, generator=draw)).clamp(0, 1)


def _write(path: Path, made: Sequence[Lesson]) -> None:
    joined = {name: np.concatenate([getattr(one, name) for one in made]) for name in ("frames", "actions", "facts")}
    tensors = {name: torch.from_numpy(values) for name, values in joined.items()}
    tensors["frames"] = tensors["frames"].permute(0, 3, 1, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    said = json.dumps([(one.instruction, len(one.frames)) for one in made])
    write_tensors(tensors, unfinished, {"instructions": said})
    unfinished.rename(path)


def _instructions(path: Path) -> list[tuple[str, int]]:
    with opened(path) as file:
        return noted(file, "instructions", path)

"""A film in closed form, and an evaluation of whoever continues it: a textured square that moves over a still table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from measured import Subject
from point_world import PointWorldModel
from rslwm.compute import generator
from rslwm.evals.rollouts import Rollouts
from rslwm.model.sampler import SamplingConfig

SIDE, SQUARE, CONTEXT, FUTURE = 64, 12, 2, 4


def texture(side: int, strength: float, concern: str) -> Tensor:
    """(side, side, 3) around 0."""
    coarse = torch.rand(1, 3, side // 3, side // 3, generator=generator(0, concern)) - 0.5
    return strength * F.interpolate(coarse, (side, side), mode="bicubic")[0].permute(1, 2, 0)


def film(clips: int = 4) -> Tensor:
    """(N, T, 64, 64, 3): in every clip the square moves another way, 2 to 4 pixels a frame."""
    table = 0.7 + texture(SIDE, 0.1, "table")
    square = torch.tensor([0.8, 0.2, 0.2]) + texture(SQUARE, 0.4, "square")
    frames = table.expand(clips, CONTEXT + FUTURE, -1, -1, -1).clone()
    for n in range(clips):
        for t in range(CONTEXT + FUTURE):
            y, x = place(n, t)
            frames[n, t, y : y + SQUARE, x : x + SQUARE] = square
    return frames.clamp(0, 1)


def place(clip: int, t: int) -> tuple[int, int]:
    """Row and column of the square's upper left corner."""
    down, right = ((2, 3), (-3, 2), (0, 4), (-2, -3))[clip % 4]
    return 26 + down * t, 26 + right * t


class Projector(PointWorldModel):
    """Whose latents are frames: decoding them loses a little, the same for everybody."""

    def decode(self, z: Tensor) -> Tensor:
        return (z + 0.01 * texture(SIDE, 1.0, "decoder")).clamp(0, 1)


@dataclass
class Cinema(Subject):
    """The true frames are those of the film, whatever the corpus shows."""

    film: Tensor = field(default_factory=film)

    def pixels(self, windows: np.ndarray, frames: int) -> Tensor:
        places = [int(np.flatnonzero((self.main.windows == window).all(1))[0]) for window in windows]
        return self.film[places, :frames]


def cinema(evaluation: Subject, continued: Callable[[Tensor], Tensor] = lambda film: film[:, CONTEXT:]) -> Cinema:
    """An evaluation of what somebody makes of the film (N, T, ...), (N, F, ...)."""
    found = Cinema(**{f.name: getattr(evaluation, f.name) for f in fields(evaluation)})
    found.world_model = Projector()
    clips = found.film
    windows = evaluation.windows(CONTEXT + FUTURE, len(clips), "film")
    actions = torch.zeros(len(clips), CONTEXT + FUTURE - 1, 4)
    found.main = Rollouts(
        windows, clips[:, :CONTEXT], clips[:, CONTEXT:], continued(clips).clone(), actions, SamplingConfig(), 0.0
    )
    return found


def blurred(clips: Tensor) -> Tensor:
    images = clips[:, CONTEXT:].flatten(0, 1).permute(0, 3, 1, 2)
    soft = F.avg_pool2d(F.pad(images, (3,) * 4, mode="replicate"), 7, 1)
    return soft.permute(0, 2, 3, 1).unflatten(0, (len(clips), -1))


def frozen(clips: Tensor) -> Tensor:
    return clips[:, CONTEXT - 1 : CONTEXT].expand(-1, FUTURE, -1, -1, -1)


def late(clips: Tensor) -> Tensor:
    """Everything happens a frame too late."""
    return clips[:, CONTEXT - 1 : -1]


def mirrored(clips: Tensor) -> Tensor:
    return clips[:, CONTEXT:].flip(3)


def noisy(clips: Tensor) -> Tensor:
    future = clips[:, CONTEXT:]
    return (future + 0.1 * torch.randn(future.shape, generator=generator(0, "grain"))).clamp(0, 1)


def only_the_table(clips: Tensor) -> Tensor:
    """The square is gone, the table is perfect."""
    return (0.7 + texture(SIDE, 0.1, "table")).expand(len(clips), FUTURE, -1, -1, -1)


def shuffled(clips: Tensor) -> Tensor:
    """Every future is that of another clip."""
    return clips[:, CONTEXT:].roll(1, 0)


DEFECTS = {f.__name__: f for f in (blurred, frozen, late, mirrored, noisy, only_the_table, shuffled)}

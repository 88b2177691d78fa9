"""The space under test: what every metric may look at beside what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, device, generator
from rslwm.data.clips import ClipBatch, Clips
from rslwm.data.corpus import Corpus
from rslwm.data.sources.base import Source
from rslwm.data.store import Readable
from rslwm.envs.imagined import imagine
from rslwm.evals.base import MetricInfo
from rslwm.evals.films import Film
from rslwm.evals.oracle import Oracle
from rslwm.evals.rows import TEST, Rows
from rslwm.evals.truth import Truth
from rslwm.evals.windows import held_out
from rslwm.latents.views import to_float
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.types import Role


@dataclass(frozen=True)
class Label:
    """The columns by which a row is told from another space's."""

    latent: str
    family: str
    size: str
    seed: int


@dataclass
class Evaluation:
    """One space under test. Windows depend on the evaluation's seed only, so all spaces are measured on the same ones.

    ``costs`` takes what a metric learns by the way of what the space takes, in seconds.
    """

    corpus: Corpus
    latents: Readable
    world_model: WorldModel
    seed: int
    compute: ComputeConfig
    label: Label
    costs: dict[str, float] = field(default_factory=dict)
    films: list[Film] = field(default_factory=list)
    """What a metric wants to be seen in the report."""
    source: Source | None = None
    """Where the episodes come from; None where that can't be asked what else would have happened."""
    split: str = TEST
    """Of its rows."""

    @cached_property
    def truth(self) -> Truth:
        """The world that they were recorded in."""
        return Truth(self.corpus, self.source, self.seed)

    def rows(
        self,
        info: MetricInfo,
        windows: np.ndarray,
        values: Tensor | np.ndarray,
        k: Any = 0,
        dim: Any = "",
        role: Role = "value",
        target: Any = np.nan,
    ) -> Rows:
        """Rows of this space for windows (N, 2) of (episode, start), the last axis of ``values`` fastest.

        Args:
            values: (N,) or (N, ...), several of a window.
            k, dim, target: horizon steps, names of dimensions and targets, as far as they broadcast to the values.
        """
        episodes, starts = (column.reshape(-1, *[1] * (values.ndim - 1)) for column in windows.T)
        return Rows.broadcast(
            **vars(self.label),
            metric=info.name,
            axis=info.axis,
            split=self.split,
            unit=np.array(self.corpus.dataset.ids)[episodes],
            k=k,
            value=np.asarray(values),
            higher_is_better=info.higher_is_better,
            target=np.asarray(target),
            window=starts,
            dim=dim,
            role=role,
        )

    def clips(self, frames: int) -> Clips:
        """Clips of latents."""
        return self.corpus.clips(self.latents, frames)

    def windows(self, frames: int, count: int, concern: str) -> np.ndarray:
        """At most ``count`` held-out windows, (N, 2), drawn without replacement and sorted.

        Raises:
            NotAvailable: no held-out episode is long enough.
        """
        return held_out(self.corpus, frames, count, self.seed, concern)

    def batch(self, frames: int, count: int, concern: str) -> ClipBatch:
        """The clips of latents in these :meth:`windows`."""
        return self.clips(frames).batch(self.windows(frames, count, concern))

    def generate(self, context: Tensor, actions: Tensor, concern: str, sampling: SamplingConfig) -> Tensor:
        """Futures (N, F, h, w, C) of contexts (N, T0, h, w, C) under actions (N, T0-1+F, A)."""
        g = generator(self.seed, concern)
        return in_parts(lambda c, a: imagine(self.world_model, c, a, sampling, g), 64, self.compute, context, actions)

    def pixels(self, windows: np.ndarray, frames: int) -> Tensor:
        """True frames (N, T, H, W, 3) in [0, 1]."""
        return to_float(self.corpus.clips(self.corpus.frames, frames).batch(windows).x)

    def encode(self, frames: Tensor, truth: Mapping[str, Tensor] | None = None) -> Tensor:
        """(N, T, H, W, 3) in [0, 1] -> (N, T, h, w, C).

        Args:
            truth: state vectors (N, T, n) of the same frames by name. Only the oracle looks at these, and at nothing
                else: it raises :class:`NotAvailable` without.
        """
        if truth is not None and isinstance(self.world_model, Oracle):
            return self.world_model.look(truth)
        return in_parts(self.world_model.encode, 8, self.compute, frames)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, T, h, w, C) -> (N, T, H, W, 3) in [0, 1]."""
        return in_parts(self.world_model.decode, 8, self.compute, latents)


def in_parts(function: Callable[..., Tensor], size: int, compute: ComputeConfig, *tensors: Tensor) -> Tensor:
    """A function of tensors (N, ...), float32 on the CPU, made of ``size`` rows at a time on the device."""
    where = device(compute)
    with torch.no_grad(), autocast(compute):
        parts = zip(*(x.split(size) for x in tensors), strict=True)
        return torch.cat([function(*(x.to(where) for x in part)).float().cpu() for part in parts])
